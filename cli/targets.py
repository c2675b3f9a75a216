"""Targets on the command line: how they are made, and the picture that shows some of them."""

import dataclasses
import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..sds import TargetSettings
from .terminal import write_png

logger = logging.getLogger(__name__)

SHOWN = "targets.png"
IN_PICTURE = 12  # targets


@dataclass(frozen=True)
class TargetsPlan:
    """A TargetsPlan is everything that targets are made of."""

    model: str  # a file, a folder, or "miniature"
    prompt: str
    negative_prompt: str
    source_prompt: str  # what the generator draws as it is
    scale: float  # of the guidance
    image_size: int | None  # pixels; None: the model's own
    half: bool
    class_index: int | None
    settings: TargetSettings
    loras: tuple[tuple[str, float], ...] = ()  # files and their strengths
    prediction: str = ""
    vae: str = ""  # a file or a folder; "": the model's own
    embeddings: tuple[str, ...] = ()  # files
    domain: str = ""  # a file; "": none
    domain_scale: float = 0.0
    domain_blend: float = 1.0
    view_prompts: dict[str, str] = field(default_factory=dict)
    further: tuple[str, ...] = ()  # files of latents whose pictures shall be among the targets

    @property
    def identity(self) -> str:
        """Return what tells these targets from others beside their codes."""
        described = dataclasses.asdict(self)
        for name in (
            "loras",
            "prediction",
            "vae",
            "embeddings",
            "view_prompts",
            "further",
        ):  # what earlier versions did not have
            if not described[name]:
                del described[name]
        if not self.domain:
            for name in ("domain", "domain_scale", "domain_blend"):
                del described[name]
        for name in ("batch_size", "refresh_share"):  # which do not change what is made
            del described["settings"][name]
        return json.dumps(described)

    def codes(self):
        """Read the codes [N, num_ws, w_dim] of the further targets; None without any. Raises CheckpointError, ValueError."""
        from ..stylegan.code_files import joined, load_codes

        return joined([load_codes(Path(file)) for file in self.further]).ws if self.further else None

    def editor(self, model, copy: Any = None):
        """Return what makes them with a StableDiffusion that has its decoder; `copy` is the text-free one of the
        domain."""
        from ..domain.on_diffusers import DomainPrior
        from ..sds import Editor
        from ..sds.priors.diffusers import DiffusersPrior
        from ..training.precision import has_bfloat16

        half = model.device.type == "cpu" and not self.half and has_bfloat16(model.device)
        given = model, self.prompt, self.negative_prompt, self.scale
        target = DomainPrior(*given, copy, self.domain_scale, self.image_size, (), self.view_prompts)
        if self.settings.inversion != "ddim":
            return Editor(target, None, half)
        return Editor(target, DiffusersPrior(model, self.source_prompt, "", 1.0, self.image_size), half)


def show_targets(generator: Any, targets: Any, prior: Any, crop: Any, path: Path) -> None:
    """Draw the first samples above their targets, for people who want to see what is aimed for."""
    from ..metrics.figures import before_after
    from ..sds.targets.making import samples_of
    from ..sds.targets.pool import to_unit

    first = slice(0, IN_PICTURE)
    try:
        draw = targets.draw(first)
        samples = samples_of(generator, draw.ws, prior, crop, draw.cameras).cpu()
        picture = before_after(samples, to_unit(targets.images[first]), names=("samples", "targets"))
        write_png(picture, path)
    except (OSError, RuntimeError, MemoryError) as error:
        logger.warning("The targets could not be shown: %s", error)
