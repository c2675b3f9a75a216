"""Domain files: what a text-free copy has learned, as safetensors, and of which model."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..training.files import replacing, write_tensors
from ..training.low_rank import change
from .text_free import VECTOR, Removal, make_text_free

FORMAT = "stylegan-fusion-domain-1"

_MEASURED = "measured."
"""What stands before the names of vectors as they were measured, which the blend goes from."""

_SELF_ATTENTION = re.compile(r"\.(attn1?|self_attn)\.(to_q|q|qkv)\.weight$")

_PROJECTIONS, _TOLERANCE = 8, 0.15
"""How many layers tell a model from others, and how far rounding to 8 bits may move a projection of one."""


class DomainError(ValueError):
    """DomainError is raised for a file that holds no domain, or one of another model; the message says what to do."""


@dataclass(frozen=True)
class Domain:
    """A Domain is what a text-free copy has learned.

    All names are those of the latent diffusion programs' UNet, which ComfyUI has, too; `renamed` gives other ones."""

    removals: tuple[Removal, ...]  # with the vectors as they were measured
    weights: Mapping[str, Tensor]  # whole ones, <layer>.down and <layer>.up of low rank, trained vectors
    family: str = ""  # what people call the kind of model
    prediction: str = ""  # of sds.score.PREDICTIONS
    base: str = ""  # the fingerprint of the model that it was learned with
    pooled: Tensor | None = None  # what the empty prompt is as a whole, for models that read it
    about: Mapping[str, str] = field(default_factory=dict)  # for people: the count of pictures, steps, settings

    def renamed(self, name_of: Callable[[str], str]) -> "Domain":
        """Return the domain with other names of modules."""

        def other(name: str) -> str:
            # Not of modules: what follows the last dot is a parameter or a side of a change.
            module, _, last = name.rpartition(".")
            return f"{name_of(module)}.{last}"

        removals = tuple(
            Removal(name_of(one.attention), one.norm and name_of(one.norm), one.vector) for one in self.removals
        )
        weights = {other(name): value for name, value in self.weights.items()}
        return Domain(removals, weights, self.family, self.prediction, self.base, self.pooled, self.about)


def fingerprint(weights: Iterable[tuple[str, Tensor]]) -> str:
    """Return a few numbers of a denoiser's weights [(name, weight)], which are alike for one model in any precision and
    differ between models of one shape: projections of some layers on random signs, in their standard deviations."""
    layers = sorted(
        ((name, value) for name, value in weights if value.ndim == 2 and _SELF_ATTENTION.search(name)),
        key=lambda layer: layer[0],
    )
    found = []
    for _, value in layers[:: max(1, len(layers) // _PROJECTIONS)][:_PROJECTIONS]:
        numbers = value.detach().flatten()[: 2**20].float().cpu()
        random = torch.Generator().manual_seed(numbers.numel())
        signs = torch.randint(0, 2, [numbers.numel()], generator=random).float() * 2 - 1
        found.append(f"{(signs @ numbers / (numbers.std() * numbers.numel() ** 0.5 + 1e-12)).item():.3f}")
    return " ".join(found)


def same_base(one: str, other: str) -> bool:
    """Tell whether two fingerprints are of one model, as far as they say."""
    a, b = (list(map(float, text.split())) for text in (one, other))
    return not a or not b or (len(a) == len(b) and all(abs(x - y) < _TOLERANCE for x, y in zip(a, b, strict=True)))


def save_domain(domain: Domain, path: Path) -> None:
    """Write a domain, in half precision. Raises OSError."""
    tensors = {name: _half(value) for name, value in domain.weights.items()}
    tensors |= {f"{_MEASURED}{one.attention}.{VECTOR}": one.vector.float() for one in domain.removals}
    if domain.pooled is not None:
        tensors["pooled"] = domain.pooled.float()
    described = {
        "family": domain.family,
        "prediction": domain.prediction,
        "base": domain.base,
        "norms": {one.attention: one.norm for one in domain.removals},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        write_tensors(temporary, tensors, {"format": FORMAT, "domain": json.dumps(described), **domain.about})


def load_domain(path: Path) -> Domain:
    """Read a domain file. Nothing in it is executed. Raises DomainError, OSError."""
    if not path.is_file():
        raise DomainError(
            f"There is no file {path}; give a domain.safetensors that Train Domain or learn-domain wrote."
        )
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError) as error:
        raise DomainError(f"{path} cannot be read as safetensors ({error}); get a whole copy of it.") from error
    if metadata.get("format") != FORMAT:
        raise DomainError(
            f"{path} holds no domain; give a file that Train Domain or learn-domain wrote. LoRAs and checkpoints have "
            "loaders of their own."
        )
    try:
        described = json.loads(metadata["domain"])
        norms = described["norms"]
        removals = tuple(
            Removal(name, norm, tensors.pop(f"{_MEASURED}{name}.{VECTOR}")) for name, norm in norms.items()
        )
        pooled = tensors.pop("pooled", None)
        for name, value in tensors.items():
            if not value.isfinite().all():
                raise ValueError(f"{name} has values that are no numbers")
        about = {name: text for name, text in metadata.items() if name not in ("format", "domain")}
        given = (str(described[name]) for name in ("family", "prediction", "base"))
        return Domain(removals, tensors, *given, pooled, about)
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        raise DomainError(f"{path} is damaged ({error}); get a whole copy of it.") from error


@torch.no_grad()
def apply_domain(denoiser: nn.Module, domain: Domain, blend: float = 1.0) -> None:
    """Make a denoiser with the base's weights the text-free copy of a domain; `blend` goes from the base's weights, 0, to
    the copy's, 1. Raises DomainError where they do not fit together."""
    make_text_free(denoiser, domain.removals)
    parameters = dict(denoiser.named_parameters())
    for name, value in domain.weights.items():
        layer, _, side = name.rpartition(".")
        if side == "up":
            continue
        place = parameters.get(f"{layer}.weight" if side == "down" else name)
        if side == "down" and f"{layer}.up" in domain.weights:
            value = change(value.float(), domain.weights[f"{layer}.up"].float())
        if place is None or place.shape != value.shape:
            raise DomainError(
                f"This domain was learned with {domain.family or 'a model of another kind'}: its {name} has no place in "
                "this model. Load the model that it was learned with."
            )
        value = value.to(place.device, torch.float32)
        now = place.float()
        place.copy_(now + blend * value if side == "down" else torch.lerp(now, value, blend))


def _half(value: Tensor) -> Tensor:
    return value.half() if value.is_floating_point() and value.abs().max() < torch.finfo(torch.float16).max else value
