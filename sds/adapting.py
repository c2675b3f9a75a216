"""Adapting a generator: what the phase of a training computes in a step (Song et al., arXiv 2212.04473, fig. 2)."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from ..stylegan import Draw, Generator, class_labels
from ..training.draws import MicroStep
from ..training.endings import PeerSkipped
from ..training.memory import MemoryRequest, tensor_bytes
from ..training.muon import Muon
from ..training.out_of_memory import MemoryPolicy
from ..training.parallel import ALONE, Alone
from ..training.phases import Average, Outcome, Phase, accumulate
from .draws import draw_cameras, draw_labels, draw_later, draw_ray_seeds, draw_timestep, draw_z, noise_source
from .fake_score import LATENTS
from .latent_pool import LatentPool
from .layers import LayerChoice
from .memory import training_memory
from .objective import Batch, NonFiniteGradient, Objective, Reference
from .parameters import trained_parameters
from .prior import Prior
from .settings import TrainSettings
from .terms import Term, require_different

ADAM_FACTOR = 4 / 5
"""StyleGAN2's correction of Adam for its lazy regularization, kept by the method: a factor of the learning rate, and an
exponent of the betas (0, 0.99)."""

MUON_FACTOR = 20
"""What makes one learning rate suit both optimizers."""

STEADYING = 0.99
"""Decay of the average where none is asked for: over about 100 steps."""

OPTIMIZERS = {
    # One tensor after the other: all at once would take as much memory again.
    "adam": (
        lambda parameters: torch.optim.Adam(parameters, betas=(0.0, 0.99**ADAM_FACTOR), foreach=False),
        ADAM_FACTOR,
    ),
    "muon": (Muon, MUON_FACTOR),
}
"""How an optimizer is made of parameters, and the factor of the learning rate."""


@dataclass(frozen=True)
class Adaptation:
    """An Adaptation moves a generator by an objective, a few of its layers at a time or all."""

    settings: TrainSettings
    objective: Objective
    layers: LayerChoice
    selectable: tuple[int, ...]  # the layers that may be chosen
    frozen: Generator  # the generator as given, on the prior's device
    generator: Generator  # its copy in training
    memory: MemoryPolicy
    parallel: Alone = ALONE  # the processes that share a step's batches

    def phase(self) -> Phase:
        """Make the phase that trains the generator. Its parameters record gradients from now on."""
        parameters = [parameter.requires_grad_(True) for parameter in self.parameters(self.selectable)]
        optimizer, factor = OPTIMIZERS[self.optimizer]
        rate, decay = self.settings.rate, self.average
        average = Average.of(self.generator, lambda step: min(decay, (1 + step) / (10 + step))) if decay else None
        return Phase(
            "generator", self.generator, optimizer(parameters), self.compute, lambda step: rate(step) * factor,
            average=average,
        )  # fmt: skip

    @property
    def optimizer(self) -> str:
        """Return the name of the optimizer: that of the settings, or the one that suits the objective."""
        if self.settings.optimizer != "auto":
            return self.settings.optimizer
        return "adam" if self.objective.pool is None else "muon"

    @property
    def average(self) -> float:
        """Return the decay of the average of weights, 0 without one: that of the settings, or one that steadies steps of
        Muon which stay as large as they are."""
        if self.settings.average is not None:
            return self.settings.average
        return STEADYING if self.optimizer == "muon" and self.settings.cooldown == 0 else 0.0

    def parameters(self, layers: Sequence[int]) -> list[nn.Parameter]:
        """Return the parameters that a step with these layers updates."""
        return trained_parameters(self.generator, layers, self.settings.also_train, self.settings.parameterization)

    def compute(self, micro_steps: Sequence[MicroStep]) -> Outcome:
        """Compute the mean gradient of the step's batches for the layers that are chosen, which are a
        note, as is the timestep."""
        if self.warms_up(micro_steps[0].step):
            return self._drawn_alone(micro_steps)
        timesteps = [self._timesteps(micro_step) for micro_step in micro_steps]
        drawn = [t for some in timesteps for t in some]
        notes = {"t": sum(drawn) / len(drawn)} if self.objective.on("latent") else {}
        try:
            pairs = [self._draw(micro_step, some) for micro_step, some in zip(micro_steps, timesteps, strict=True)]
            codes: list[Tensor] = []
            outcome = accumulate((self._outcome(*pair, codes) for pair in pairs), len(pairs))
            start = micro_steps[0].index * self.settings.batch_size
            layers = self.layers.choose(
                self.selectable,
                self._of_all(torch.cat(codes), start) if codes else None,
                lambda shift: self._of_all(self._code_gradient(pairs, shift[start:]), start),
            )
        except NonFiniteGradient as error:
            if self.layers.needs_code_gradient:  # for which the other processes wait
                self.parallel.skipping(str(error))
            return Outcome({}, notes=notes, skipped=str(error))
        except PeerSkipped as error:
            return Outcome({}, notes=notes, skipped=str(error))
        chosen = {parameter: outcome.gradients[parameter] for parameter in self.parameters(layers)}
        return Outcome(chosen, outcome.losses, {**notes, "layers": layers})

    def _of_all(self, gradient: Tensor, start: int) -> Tensor:
        """The gradient of the codes of all batches of the step, of which these begin at the row `start`: layers are chosen
        by all of them."""
        return self.parallel.gathered(gradient, start, self.settings.accumulation * self.settings.batch_size)

    def warms_up(self, step: int) -> bool:
        """Tell whether what else is trained learns alone in a step, counted from 0, the generator staying as it is."""
        return step < max(term.steps_alone for term in self.objective.terms)

    def _drawn_alone(self, micro_steps: Sequence[MicroStep]) -> Outcome:
        """Draw the step's pictures for what else is trained."""
        for micro_step in micro_steps:
            draw, _ = self._draw_pictures(micro_step)
            micro_step.shared[LATENTS] = self.objective.latents(self.generator, draw, self.memory.micro_batch)
        return Outcome({})

    @cached_property
    def latents(self) -> LatentPool | None:
        """Return the latents that batches are drawn from again and again; None: they are drawn anew."""
        count = self.settings.latent_pool
        if not count:
            return None
        draw = self._new_samples(MicroStep(self.settings.seed, 0), count)
        return LatentPool(draw, self.objective, self.frozen, self.settings)

    def _timesteps(self, micro_step: MicroStep) -> list[float]:
        if noises := self._noises(micro_step):
            return [self.latents.timestep(noise) for noise in noises]
        return [draw_timestep(micro_step, self.settings, place) for place in range(self._looks)]

    @property
    def _looks(self) -> int:
        """How many times each image is looked at."""
        return self.settings.timesteps_per_image if self.objective.on("latent") else 1

    def _noises(self, micro_step: MicroStep) -> list[int]:
        """The noises of the pool that a batch is looked at with; none: they are drawn anew."""
        return self.latents.noises(micro_step, self._looks) if self.settings.noise_pool else []

    def _draw(self, micro_step: MicroStep, timesteps: Sequence[float]) -> tuple[Batch, Reference]:
        settings, (draw, targets) = self.settings, self._draw_pictures(micro_step)
        noise, micro_batch = noise_source(micro_step, self.objective.prior.device), self.memory.micro_batch
        if self.latents is None:
            reference = self.objective.reference(self.frozen, draw, micro_batch)
        else:
            rows, noises = self.latents.rows(micro_step), self._noises(micro_step)
            reference = self.latents.reference(rows, noises, micro_batch)
            noise = self.latents.noise_source(rows, noises) if noises else noise
        batch = Batch(
            draw,
            timesteps,
            noise,
            settings.guidance(micro_step.step),
            targets,
            [draw_later(micro_step, t, settings) for t in timesteps],
            micro_step.step / settings.steps,
            micro_step.shared,
        )
        return batch, reference

    def _draw_pictures(self, micro_step: MicroStep) -> tuple[Draw, Tensor | None]:
        """Draw what the pictures of a batch are made of, and their targets where there are any."""
        settings, pool = self.settings, self.objective.pool
        if pool is not None:
            device = self.objective.prior.device
            ray_seeds = draw_ray_seeds(micro_step, settings.batch_size, self.frozen.config)
            rows = pool.rows(micro_step, settings.batch_size, settings.accumulation)
            draw = dataclasses.replace(pool.draw(rows), ray_seeds=ray_seeds).to(device)
            return draw, pool.pictures(rows, device)
        if self.latents is not None:
            return self.latents.samples(self.latents.rows(micro_step)), None
        return self._new_samples(micro_step, settings.batch_size), None

    def _new_samples(self, micro_step: MicroStep, count: int) -> Draw:
        settings, frozen, device = self.settings, self.frozen, self.objective.prior.device
        z = draw_z(micro_step, count, frozen.z_dim)
        # The camera that looks is the one that the mapping is told of, as in EG3D's own training.
        label = cameras = draw_cameras(micro_step, count, frozen.config, settings)
        if cameras is None:
            label = draw_labels(micro_step, count, frozen.c_dim, settings.class_index)
        with torch.no_grad():
            ws = frozen.mapping(z.to(device), label=None if label is None else label.to(device))
        return Draw(ws, cameras=cameras, ray_seeds=draw_ray_seeds(micro_step, count, frozen.config)).to(device)

    def _outcome(self, batch: Batch, reference: Reference, codes: list[Tensor]) -> Outcome:
        """What a batch says of every parameter that may be chosen; the gradient of its W+ code goes to `codes` where the
        choice asks for it."""
        parameters = self.parameters(self.selectable)
        leaf = [batch.draw.ws.requires_grad_()] if self.layers.needs_code_gradient else []
        found, losses = self._gradients(batch, reference, parameters + leaf)
        codes += [found.pop() * len(batch.draw) for _ in leaf]  # of each sample, not of their mean
        return Outcome(dict(zip(parameters, found, strict=True)), losses)

    def _code_gradient(self, pairs: Sequence[tuple[Batch, Reference]], shift: Tensor) -> Tensor:
        """The gradient of the batches' W+ codes, all below each other, where they are moved by the first rows of
        `shift`."""
        found = []
        for (batch, reference), part in zip(pairs, shift.split(self.settings.batch_size), strict=False):
            code = (batch.draw.ws.detach() + part).requires_grad_()
            moved = dataclasses.replace(batch, draw=dataclasses.replace(batch.draw, ws=code))
            (gradient,), _ = self._gradients(moved, reference, [code])
            found.append(gradient * len(code))
        return torch.cat(found)

    def _gradients(self, batch: Batch, reference: Reference, inputs: list[Tensor]) -> tuple[list[Tensor], dict]:
        memory = self.memory
        return self.objective.gradients(self.generator, batch, reference, inputs, memory.micro_batch, memory.recompute)

    def memory_request(self) -> MemoryRequest:
        """Say what the training asks of its prior and of the device."""
        height, width = self.objective.image_size(self.generator)
        count, recompute = self.memory.micro_batch, self.memory.recompute
        rows = count * self.objective.rows_per_sample
        request = MemoryRequest(rows, height, width, images=count, recompute=recompute)
        if not self.objective.prior.session.makes_room:
            return request
        resident, peak = training_memory(
            self.generator, count, recompute=recompute, accumulate=self.settings.accumulation > 1
        )
        for term in self.objective.terms:
            kept, beyond = term.memory(torch.empty(count, 3, height, width, device="meta"))
            resident, peak = resident + kept, max(peak, beyond)
        if self.average:
            resident += tensor_bytes(self.generator.state_dict().values())
        here = sum(tensor_bytes(copy.state_dict().values()) for copy in (self.frozen, self.generator))
        return dataclasses.replace(request, resident_bytes=resident - here, peak_bytes=peak)


def require_parts(prior: Prior, terms: Sequence[Term]) -> None:
    """Raise ValueError when a term needs what the prior does not give."""
    for term in terms:
        term.require(prior)


def require_trainable(
    generator: Generator, settings: TrainSettings, terms: Sequence[Term], layers: LayerChoice
) -> None:
    """Raise ValueError when these do not fit together; nothing is copied or computed."""
    class_labels(generator.c_dim, 1, class_index=settings.class_index)
    selectable = layers.selectable(len(generator.synthesis.layers))
    trained_parameters(generator, selectable, settings.also_train, settings.parameterization)
    counting = [term for term in terms if term.weight > 0]
    if not counting:
        raise ValueError("Nothing is left to train towards: every term has the weight 0; give one a weight above 0.")
    require_different(counting)
    if settings.latent_pool and any(term.pool is not None for term in counting):
        raise ValueError("Targets bring latents of their own; set latent_pool to 0.")
