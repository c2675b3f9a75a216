"""Looks at a generator while it trains: samples, weights, copies."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..stylegan import Generator, draw_codes, render_samples, sample_z
from ..training.out_of_memory import handle_out_of_memory
from ..training.phases import Phase
from .adapting import Adaptation
from .parameters import copy_generator, trained_parameters


@dataclass
class Snapshots:
    """Snapshots are taken of the generator that an adaptation trains; none of them disturbs it."""

    adaptation: Adaptation
    phase: Phase
    output_device: torch.device  # where the given generator lives

    @property
    def generator(self) -> Generator:
        """Return the generator that is looked at: the average of the one in training where there is one."""
        return self.adaptation.generator if self.phase.average is None else self.phase.average.module

    def samples(self, count: int) -> Tensor:
        """Draw images [count, img_channels, H, W] on the CPU by the generator in training, from latents that never change."""
        generator, settings = self.generator, self.adaptation.settings
        z, chosen = sample_z(generator.z_dim, count, settings.seed), settings.class_index
        pool = self.adaptation.objective.pool
        if pool is not None and count <= len(pool):  # beside their targets, for whoever looks
            return torch.cat([*draw_codes(generator, pool.codes[:count], cameras=pool.draw(slice(count)).cameras)])
        try:
            return render_samples(generator, z, class_index=chosen)
        except Exception as error:
            if not handle_out_of_memory(error):
                raise
        self.adaptation.memory.release()
        turns = range(count) if generator.c_dim and chosen is None else ()
        classes = [index % generator.c_dim for index in turns] or [chosen] * count
        one_by_one = zip(z.split(1), classes, strict=True)
        return torch.cat([render_samples(generator, row, class_index=index) for row, index in one_by_one])

    def weights(self) -> dict[str, Tensor]:
        """Return copies of the trained parameters on the CPU, by their names in the generator."""
        names = {parameter: name for name, parameter in self.generator.named_parameters()}
        places = self._places(self.generator)
        return {names[p]: copied for p, copied in zip(places, self.copied_weights(), strict=True)}

    def copied_weights(self) -> list[Tensor]:
        """Return copies of the trained parameters on the CPU, in the optimizer's order."""
        return [parameter.detach().to("cpu", copy=True) for parameter in self._places(self.generator)]

    def current(self) -> Generator:
        """Return a copy of the generator in training, where the given one lives."""
        return copy_generator(self.generator, self.output_device)

    def original(self) -> Generator:
        """Return a copy of the frozen generator, where the given one lives."""
        return copy_generator(self.adaptation.frozen, self.output_device)

    def with_weights(self, weights: list[Tensor]) -> Generator:
        """Return a copy of the generator as it was with these trained parameters, in the optimizer's order."""
        generator = self.current()
        with torch.no_grad():
            for place, weight in zip(self._places(generator), weights, strict=True):
                place.copy_(weight)
        return generator

    @torch.no_grad()
    def put_back(self, weights: list[Tensor]) -> None:
        """Give the generator in training, and its average, these trained parameters."""
        for place in {self.adaptation.generator, self.generator}:
            for parameter, weight in zip(self._places(place), weights, strict=True):
                parameter.copy_(weight)

    def frozen_weights(self) -> list[nn.Parameter]:
        """Return the frozen generator's values of the trained parameters, in the optimizer's order."""
        return self._places(self.adaptation.frozen)

    def _places(self, generator: Generator) -> list[nn.Parameter]:
        settings = self.adaptation.settings
        return trained_parameters(generator, self.adaptation.selectable, settings.also_train, settings.parameterization)
