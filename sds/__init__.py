"""The method: score distillation from a text-to-image prior into a generator (arXiv 2212.04473)."""

from .layers import TRAINED_BY_DEFAULT, AllLayers, LayerChoice, ManualLayers, TopKLayers
from .metadata import training_metadata
from .parameters import with_weights
from .perceptual import PerceptualRegularizer
from .prior import Prior, timestep_index
from .progress import (
    History,
    Progress,
    StepRecord,
    TrainingDiverged,
    TrainingInterrupted,
    TrainingOutOfMemory,
    TrainingStopped,
    TrainResult,
)
from .regularizers import DirectionalRegularizer, ImageRegularizer, ReconstructionRegularizer, Regularizer
from .saving import SavedTraining, SavedTrainingError, weights_digest
from .schedules import TIMESTEP_SCHEDULES, WEIGHTINGS
from .settings import PARAMETER_GROUPS, TrainSettings, parse_groups
from .state import require_trainable
from .training import diversity, train_generator

__all__ = [
    "PARAMETER_GROUPS",
    "TIMESTEP_SCHEDULES",
    "TRAINED_BY_DEFAULT",
    "WEIGHTINGS",
    "AllLayers",
    "DirectionalRegularizer",
    "History",
    "ImageRegularizer",
    "LayerChoice",
    "ManualLayers",
    "PerceptualRegularizer",
    "Prior",
    "Progress",
    "ReconstructionRegularizer",
    "Regularizer",
    "SavedTraining",
    "SavedTrainingError",
    "StepRecord",
    "TopKLayers",
    "TrainResult",
    "TrainSettings",
    "TrainingDiverged",
    "TrainingInterrupted",
    "TrainingOutOfMemory",
    "TrainingStopped",
    "diversity",
    "parse_groups",
    "require_trainable",
    "timestep_index",
    "train_generator",
    "training_metadata",
    "weights_digest",
    "with_weights",
]
