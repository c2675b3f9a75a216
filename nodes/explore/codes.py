"""What the nodes share that explore latents: which layers, and which codes."""

from comfy_api.v0_0_2 import io
from torch import Tensor

from ...stylegan import LAYER_RANGES, Generator, codes_of, mapping_digest, parse_codes, require_fitting
from ..host.server import show_text
from ..inputs import complaint
from ..types import CATEGORY, Latents, NamedGenerator

EXPLORE = f"{CATEGORY}/explore"

CUSTOM = "custom"


def layers_inputs(default: str, what: str) -> list:
    """Make two inputs, of which `chosen_codes` makes indices."""
    return [
        io.Combo.Input(
            "layers",
            options=[*LAYER_RANGES, CUSTOM],
            default=default,
            tooltip=f"{what} coarse: up to 8 pixels over the image (pose, shape); middle: to 32 (features); fine: above "
            "(colours, texture).",
        ),
        io.String.Input(
            "custom_layers",
            default="0-3",
            tooltip="Numbers of codes for layers: custom, as 0-3, 6. 0 is the coarsest; 1024 pixels have 0 to 17, the "
            "miniature 0 to 9.",
        ),
    ]


def check_layers(layers: str, custom_layers: str) -> str | bool:
    """Return what is wrong with the text of custom layers, or True, for validate_inputs."""
    return complaint(parse_codes, custom_layers) if layers == CUSTOM else True


def chosen_codes(generator: Generator, layers: str, custom_layers: str) -> tuple[int, ...]:
    """Return the indices of the W+ codes that the two inputs name."""
    return codes_of(generator, custom_layers if layers == CUSTOM else layers)


def fitting(generator: NamedGenerator, latents: Latents) -> Tensor:
    """Return the codes of latents. Raises ValueError when they are not of this generator's shape."""
    require_fitting(generator.generator, latents.ws)
    return latents.ws


def tell_of_another_mapping(node_id: str, generator: NamedGenerator, latents: Latents) -> None:
    """Say so on the node where latents come from a generator of another kind than the one that draws them."""
    if latents.mapping != mapping_digest(generator.generator):
        show_text(
            node_id, "These latents belong to a generator with another mapping: what they show may not carry over."
        )


def shared_mapping(*latents: Latents) -> str:
    """Return the mapping that latents belong to; "" for several."""
    mappings = {one.mapping for one in latents}
    return mappings.pop() if len(mappings) == 1 else ""
