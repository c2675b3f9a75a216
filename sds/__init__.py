"""The method: score distillation from a text-to-image prior into a generator (arXiv 2212.04473)."""

from .layers import TRAINED_BY_DEFAULT, AllLayers, LayerChoice, ManualLayers, TopKLayers
from .metadata import training_metadata
from .prior import Prior, timestep_index
from .progress import (
    History,
    Progress,
    StepRecord,
    TrainingDiverged,
    TrainingInterrupted,
    TrainingStopped,
    TrainResult,
)
from .regularizers import DirectionalRegularizer, ReconstructionRegularizer, Regularizer
from .settings import PARAMETER_GROUPS, TrainSettings, parse_groups
from .training import diversity, train_generator

__all__ = [
    "PARAMETER_GROUPS",
    "TRAINED_BY_DEFAULT",
    "AllLayers",
    "DirectionalRegularizer",
    "History",
    "LayerChoice",
    "ManualLayers",
    "Prior",
    "Progress",
    "ReconstructionRegularizer",
    "Regularizer",
    "StepRecord",
    "TopKLayers",
    "TrainResult",
    "TrainSettings",
    "TrainingDiverged",
    "TrainingInterrupted",
    "TrainingStopped",
    "diversity",
    "parse_groups",
    "timestep_index",
    "train_generator",
    "training_metadata",
]
