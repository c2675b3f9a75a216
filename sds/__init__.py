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
from .pictures import PicturesPrior, pictures_side
from .prior import Prior, timestep_index
from .results import Progress, TrainResult
from .schedules import TIMESTEP_SCHEDULES, WEIGHTINGS
from .session import Session
from .settings import PARAMETER_GROUPS, TrainSettings, parse_groups
from .targets.editing import edited, invert
from .targets.files import TARGETS_FILE, TargetsError, TargetsFolder
from .targets.making import Editor, make_targets
from .targets.pool import Made, Targets
from .targets.settings import TargetSettings
from .terms import (
    DISTILLATIONS,
    TERMS,
    ClipDirectional,
    DirectionalRegularizer,
    DistributionMatching,
    ImageTerm,
    LatentTerm,
    PerceptualRegularizer,
    ReconstructionRegularizer,
    ScoreDistillation,
    TargetLatents,
    TargetPictures,
    Term,
    View,
    of_objective,
    scale_warnings,
)
from .training import train_generator

__all__ = [
    "DISTILLATIONS",
    "PARAMETER_GROUPS",
    "TARGETS_FILE",
    "TERMS",
    "TIMESTEP_SCHEDULES",
    "TRAINED_BY_DEFAULT",
    "WEIGHTINGS",
    "AllLayers",
    "ClipDirectional",
    "DirectionalRegularizer",
    "DistributionMatching",
    "Editor",
    "History",
    "ImageTerm",
    "LatentTerm",
    "LayerChoice",
    "Made",
    "ManualLayers",
    "PerceptualRegularizer",
    "PicturesPrior",
    "Prior",
    "Progress",
    "ReconstructionRegularizer",
    "SavedTraining",
    "SavedTrainingError",
    "ScoreDistillation",
    "Session",
    "StepRecord",
    "TargetLatents",
    "TargetPictures",
    "TargetSettings",
    "Targets",
    "TargetsError",
    "TargetsFolder",
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
    "edited",
    "invert",
    "make_targets",
    "of_objective",
    "parse_groups",
    "pictures_side",
    "require_parts",
    "require_trainable",
    "scale_warnings",
    "timestep_index",
    "train_generator",
    "training_metadata",
    "weights_digest",
    "with_weights",
]
