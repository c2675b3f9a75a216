"""Quality of a set of pictures, measured in the classifier's features."""

import torch
from torch import Tensor


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Squared Fréchet distance between Gaussians fitted to features a [N, D] and b [M, D] (arXiv 1706.08500).

    |mu_a - mu_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)); the last trace is the sum of the roots of the eigenvalues."""
    a, b = a.double(), b.double()
    covariance_a, covariance_b = a.T.cov(), b.T.cov()
    roots = torch.linalg.eigvals(covariance_a @ covariance_b).real.clamp(min=0).sqrt().sum()
    mean = (a.mean(0) - b.mean(0)).square().sum()
    return (mean + covariance_a.trace() + covariance_b.trace() - 2 * roots).item()


def diversity(features: Tensor) -> float:
    """Mean Euclidean distance between two different rows of features [N, D]."""
    return torch.pdist(features.double()).mean().item()
