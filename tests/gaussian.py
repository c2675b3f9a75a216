"""A prior whose predictions are known in closed form."""

import math

import torch
import torch.nn.functional as F
from comfyui_stylegan_fusion.sds import Prior, Session
from comfyui_stylegan_fusion.sds.score import TrainableScore
from torch import nn


class GaussianScore(TrainableScore):
    """The score of latents around a mean that is learned, one for each channel, a linear layer without features."""

    prediction, device = "noise", torch.device("cpu")

    def __init__(self, prior):
        self.prior, self.denoiser = prior, nn.Linear(1, 4, bias=False)
        nn.init.zeros_(self.denoiser.weight)

    def schedule(self, t):
        return self.prior.schedule(t)

    def denoised(self, z_t, t):
        alpha, sigma = self._at(t, z_t)
        mean = self.denoiser(z_t.new_ones(1)).view(1, 4, 1, 1)
        variance = self.prior.spread**2
        return mean + alpha * variance / (alpha**2 * variance + sigma**2) * (z_t - alpha * mean)


class GaussianPrior(Prior):
    """Latents distributed as N(mean, s^2 I): the noise prediction is known in closed form. The encoder is linear."""

    image_size = 16
    device = torch.device("cpu")
    condition_names = ("unconditional", "text")
    spread = 0.5

    def __init__(self, target=(0.8, -0.6, -0.2)):
        self.mixing = torch.tensor([[1.0, 0.2, 0.0], [0.0, 1.0, 0.3], [-0.4, 0.0, 1.0], [0.5, -0.5, 0.5]])
        self.mean = self.encode(torch.tensor(target).view(1, 3, 1, 1).expand(1, 3, 16, 16))
        self.session = Session()  # of its own: tests change it
        self.calls = []  # (rows, t) of every evaluation
        self.faults = {}  # evaluation (from 0) -> value that spoils it, or exception

    def schedule(self, t):
        t = min(max(t, 0.001), 0.999)
        return math.cos(t * math.pi / 2), math.sin(t * math.pi / 2)

    def encode(self, images, recompute=False):
        assert images.shape[1:] == (3, 16, 16)
        assert images.abs().max() <= 1
        return torch.einsum("dc,bchw->bdhw", self.mixing, F.avg_pool2d(images, 2))

    def guided(self, z_t, t, scaling=1.0):
        fault = self.faults.get(len(self.calls))
        self.calls.append((len(z_t), t))
        if isinstance(fault, BaseException):
            raise fault
        alpha, sigma = self.schedule(t)
        eps_hat = sigma * (z_t - alpha * self.mean) / (alpha**2 * self.spread**2 + sigma**2)
        if fault is not None:
            eps_hat[0, 0, 0, 0] = fault
        return eps_hat

    def guided_and_conditions(self, z_t, t, scaling=1.0):
        """The guided prediction as that of the text, and without it the one of latents around 0."""
        text = self.guided(z_t, t, scaling)
        alpha, sigma = self.schedule(t)
        return text, {"unconditional": sigma * z_t / (alpha**2 * self.spread**2 + sigma**2), "text": text}

    def require_trainable_score(self):
        pass

    def trainable_score(self, low_rank):
        return GaussianScore(self)
