"""Any GUIDER of the host, with a VAE, as a Prior: the score and the encoder that a training asks for."""

import copy
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from ...sds.prior import UNCONDITIONAL, Prior
from ...sds.session import Session
from ...training.memory import MemoryRequest
from ...training.out_of_memory import is_out_of_memory
from . import device, guiders
from .encoder import Encoder
from .encoding import copied_encoder
from .families import MISFITS, check_family, check_sides, downscale_of, misfit, native_size, side_multiple
from .schedule import HostSchedule
from .score import HostScore, dtype_of
from .session import run_in_guider, with_room_for

T = TypeVar("T")


class ComfyPrior(Prior):
    """ComfyPrior is a guider of a graph (the host's or another pack's) with the VAE of its diffusion model: the critic.

    image_size is the longer side in pixels; 0 takes the size that the model was made for. The guider stays as it is.
    Raises ValueError with a sentence when its parts do not belong together."""

    def __init__(self, guider, vae, image_size: int = 0):
        if not (hasattr(guider, "sample") and hasattr(guider, "model_patcher")):
            raise ValueError("This GUIDER does not say which model it guides; use the CFG Guider of ComfyUI.")
        model = guider.model_patcher
        self.vae = vae
        self.device = model.load_device
        self._guider = guiders.own_copy(guider)
        self._latent_format = copy.copy(model.get_model_object("latent_format"))
        vars(self._latent_format).update(guiders.detached(vars(self._latent_format)))  # gradients pass through it
        self._downscale = downscale_of(vae)
        check_family(model, vae, guiders.conditions_of(guider), self._latent_format)
        # Models of films read each image as a film of one frame.
        self._films = self._latent_format.latent_dimensions == 3
        self._schedule = HostSchedule(model.get_model_object("model_sampling"))
        self._multiple = side_multiple(model, self._downscale)
        self.image_size = image_size or native_size(model, self._downscale)
        check_sides(self.image_size, self.image_size, self._multiple)
        self._encoder: Encoder | None = None
        self._evaluation: tuple[Any, dict] | None = None  # (guider, extra_args) while the session runs
        self._facing: dict[str, Any] = {}  # guiders with the prompts of views, likewise
        self._fits = False  # whether an evaluation has gone well, so that an error of the next one is no misfit

    @property
    def session(self) -> Session:
        return _HostSession(self)  # made anew: kept, it would be a circle that holds the model

    @property
    def fingerprint(self) -> str:
        """Return the guider's prompts and scales in a few numbers."""
        return guiders.conditioning_fingerprint(self._guider)

    @property
    def condition_names(self) -> tuple[str, ...]:
        names = tuple(guiders.condition_names(self._guider).values())
        return names if UNCONDITIONAL in names else ()

    @property
    def views(self) -> tuple[str, ...]:
        return guiders.views_of(self._guider)

    def facing(self, view: str) -> "ComfyPrior":
        other = copy.copy(self)
        other._evaluation = self._facing[view], self._evaluation[1]
        return other

    @property
    def can_scale(self) -> bool:
        """Whether the guider has scales of its own that guided() can multiply."""
        return guiders.can_scale(self._guider)

    def schedule(self, t: float) -> tuple[float, float]:
        return self._schedule(t)

    def encode(self, images: Tensor, recompute: bool = False) -> Tensor:
        if self._encoder is None:
            raise RuntimeError("encode() is only available within session.run().")
        check_sides(*images.shape[-2:], self._multiple)
        latents = self._encoder(images, recompute)
        return self._from_model(self._latent_format.process_in(self._to_model(latents)))

    def decode(self, latents: Tensor) -> Tensor:
        images = self.vae.decode(self._latent_format.process_out(self._to_model(latents)))
        images = images.flatten(0, -4)[..., :3]  # a film of one frame each
        return images.movedim(-1, 1).float().mul(2).sub(1)

    @torch.no_grad()
    def guided(self, z_t: Tensor, t: float, scaling: float = 1.0) -> Tensor:
        guider, extra_args = self._evaluation
        with self._scaled(scaling):
            return self._predictions(z_t, t, lambda x, sigma: {"guided": guider(x, sigma, **extra_args)})["guided"]

    @torch.no_grad()
    def conditions(self, z_t: Tensor, t: float) -> dict[str, Tensor]:
        guider, extra_args = self._evaluation
        options = extra_args["model_options"]
        return self._named(self._predictions(z_t, t, lambda x, sigma: guiders.parts(guider, x, sigma, options), True))

    @torch.no_grad()
    def guided_and_conditions(self, z_t: Tensor, t: float, scaling: float = 1.0) -> tuple[Tensor, dict[str, Tensor]]:
        guider, extra_args = self._evaluation
        with self._scaled(scaling):
            found = self._predictions(
                z_t, t, lambda x, sigma: guiders.guided_and_parts(guider, x, sigma, extra_args), True
            )
        return found.pop(guiders.GUIDED), self._named(found)

    def require_trainable_score(self) -> None:
        if not guiders.conditions_of(self._guider).get("positive"):
            raise ValueError(
                "This GUIDER has no prompt that a second network could be given; use a guider with one, such as CFG Guider, or "
                "another term."
            )

    def trainable_score(self, low_rank: bool) -> HostScore:
        self.require_trainable_score()
        model = self._guider.model_patcher
        half = low_rank and dtype_of(model).itemsize < 4
        dtype = torch.bfloat16 if half else torch.float32
        weights = sum(value.numel() for value in model.model.diffusion_model.parameters())
        device.make_room(lambda: weights * dtype.itemsize)
        return HostScore(model, guiders.conditions_of(self._guider)["positive"], dtype, self._downscale)

    def _named(self, found: dict[str, Tensor]) -> dict[str, Tensor]:
        names = guiders.condition_names(self._guider)
        return {names.get(name, name): eps for name, eps in found.items()}

    def _scaled(self, scaling: float):
        if scaling != 1.0 and not self.can_scale:
            raise ValueError(
                "The strength of this GUIDER's guidance cannot be changed while training, as a schedule of it would; "
                "use a CFG Guider with two prompts, or a constant guidance scale."
            )
        return guiders.scaled(self._evaluation[0], scaling)

    def _predictions(
        self, z_t: Tensor, t: float, denoise: Callable[..., dict[str, Tensor]], apart: bool = False
    ) -> dict[str, Tensor]:
        """Predict eps_hat from each of the host's denoised estimates; `apart` says that they are of single prompts."""
        x, sigma = self._schedule.host_input(z_t, t)
        guiders.as_first_step(*self._evaluation, sigma)
        guiders.require_active(self._evaluation[0], sigma, t, apart)
        try:
            estimates = denoise(self._to_model(x), sigma)
        except MISFITS as error:
            if self._fits or is_out_of_memory(error):
                raise
            raise misfit(error) from error
        self._fits = True
        return {name: self._schedule.noise_in(x, self._from_model(D), t) for name, D in estimates.items()}

    def _to_model(self, latents: Tensor) -> Tensor:
        return latents.unsqueeze(2) if self._films else latents

    def _from_model(self, latents: Tensor) -> Tensor:
        return latents.squeeze(2) if self._films else latents


class _HostSession(Session):
    """_HostSession runs a training inside the prior's guider, with the models loaded by the host."""

    def __init__(self, prior: ComfyPrior):
        self.prior = prior

    @property
    def makes_room(self) -> bool:
        return device.makes_room(self.prior.device)

    def run(self, body: Callable[[], T], request: MemoryRequest) -> T:
        prior = self.prior

        def evaluated(guider, extra_args) -> T:
            guiders.require_text_alone(guider)
            with guiders.views_apart(guider, prior.views) as prior._facing:
                prior._evaluation = guider, extra_args
                return body()

        guider = with_room_for(prior._guider, prior.vae, request)
        # Areas and masks of the prompts are laid out on latents of this shape.
        sides = (max(1, request.height // prior._downscale), max(1, request.width // prior._downscale))
        noise = torch.zeros(request.rows, prior._latent_format.latent_channels, *[1] * prior._films, *sides)
        try:
            prior._encoder = copied_encoder(prior.vae, prior.device)
            return run_in_guider(guider, evaluated, noise, torch.tensor([prior._schedule.host_sigma(1.0)]))
        finally:
            prior._encoder, prior._evaluation, prior._facing = None, None, {}

    def release_memory(self) -> None:
        device.release_memory()
