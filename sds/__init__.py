"""The method: score distillation from a text-to-image prior into a generator (arXiv 2212.04473)."""

from ..metrics.diversity import diversity
from ..training.digests import weights_digest
from ..training.endings import TrainingDiverged, TrainingInterrupted, TrainingOutOfMemory, TrainingStopped
from ..training.history import History, StepRecord
from ..training.saving import SavedTraining, SavedTrainingError
from .adapting import require_parts, require_trainable
from .layers import TRAINED_BY_DEFAULT, AllLayers, LayerChoice, ManualLayers, TopKLayers
from .metadata import training_metadata
from .parameters import with_weights
from .prior import Prior, timestep_index
from .results import Progress, TrainResult
from .schedules import TIMESTEP_SCHEDULES, WEIGHTINGS
from .session import Session
from .settings import PARAMETER_GROUPS, TrainSettings, parse_groups
from .terms import (
    DISTILLATIONS,
    TERMS,
    DirectionalRegularizer,
    ImageTerm,
    LatentTerm,
    PerceptualRegularizer,
    ReconstructionRegularizer,
    ScoreDistillation,
    Term,
    View,
    of_objective,
)
from .training import train_generator

__all__ = [
    "DISTILLATIONS",
    "PARAMETER_GROUPS",
    "TERMS",
    "TIMESTEP_SCHEDULES",
    "TRAINED_BY_DEFAULT",
    "WEIGHTINGS",
    "AllLayers",
    "DirectionalRegularizer",
    "History",
    "ImageTerm",
    "LatentTerm",
    "LayerChoice",
    "ManualLayers",
    "PerceptualRegularizer",
    "Prior",
    "Progress",
    "ReconstructionRegularizer",
    "SavedTraining",
    "SavedTrainingError",
    "ScoreDistillation",
    "Session",
    "StepRecord",
    "Term",
    "TopKLayers",
    "TrainResult",
    "TrainSettings",
    "TrainingDiverged",
    "TrainingInterrupted",
    "TrainingOutOfMemory",
    "TrainingStopped",
    "View",
    "diversity",
    "of_objective",
    "parse_groups",
    "require_parts",
    "require_trainable",
    "timestep_index",
    "train_generator",
    "training_metadata",
    "weights_digest",
    "with_weights",
]
