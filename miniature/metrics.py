"""Variety of a set of pictures, measured in the classifier's features."""

import torch
from torch import Tensor


def diversity(features: Tensor) -> float:
    """Return the mean Euclidean distance between two different rows of features [N, D]."""
    return torch.pdist(features.double()).mean().item()
