"""The types that travel between our nodes, and the schema helpers they share."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from comfy_api.v0_0_2 import io
from torch import Tensor

from ..sds import LayerChoice
from ..stylegan import Generator

CATEGORY = "StyleGAN Fusion"

GeneratorType = io.Custom("STYLEGAN_FUSION_GENERATOR")
GuidanceType = io.Custom("STYLEGAN_FUSION_GUIDANCE")
TermsType = io.Custom("STYLEGAN_FUSION_REGULARIZER")
LayersType = io.Custom("STYLEGAN_FUSION_LAYERS")
ExtraPromptsType = io.Custom("STYLEGAN_FUSION_EXTRA_PROMPTS")
LatentsType = io.Custom("STYLEGAN_FUSION_LATENTS")
ViewPromptsType = io.Custom("STYLEGAN_FUSION_VIEW_PROMPTS")  # CONDITIONINGs by sds.views.VIEWS
TargetsType = io.Custom("STYLEGAN_FUSION_TARGETS")
OptimizerType = io.Custom("STYLEGAN_FUSION_OPTIMIZER")
DomainType = io.Custom("STYLEGAN_FUSION_DOMAIN")
CameraType = io.Custom("STYLEGAN_FUSION_CAMERA")  # stylegan.Views

HostCameraType = io.Custom("LOAD3D_CAMERA")
"""A camera of the host's 3D nodes; hosts without them have nothing that could be linked."""

HostMeshType = io.Custom("MESH")
"""A mesh of the host's 3D nodes."""


@io.comfytype(io_type="STYLEGAN_FUSION_PANEL")
class PanelType(io.ComfyTypeI):
    """PanelType is the panel that our extension of the page draws on a node; its value is a key, random for each
    node."""

    Type = str

    class Input(io.WidgetInput):
        """Input is as the host's inputs that have a widget."""


def aliases(*words: str) -> dict[str, list[str]]:
    """Give a node other words under which a node is found, in its schema: **aliases("gan", ...). Hosts before 0.4 have
    none."""
    return {"search_aliases": [*words]} if "search_aliases" in {field.name for field in fields(io.Schema)} else {}


@dataclass(frozen=True)
class NamedGenerator:
    """A NamedGenerator is a generator as it travels through a graph. Nodes never change one: they pass on another."""

    generator: Generator
    name: str  # the file it came from, for metadata and messages
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class NamedDomain:
    """A NamedDomain is a domain as it travels through a graph: the text-free copy of a MODEL that it was loaded for."""

    copy: Any  # the host's model patcher
    pooled: Tensor | None  # what the empty prompt is as a whole, for models that read it
    name: str  # the file it is in


@dataclass(frozen=True)
class Latents:
    """Latents are W+ codes as they travel through a graph; they fit every generator of their shape, and mean the same
    to those with the same mapping."""

    ws: Tensor  # [N, num_ws, w_dim], on the CPU
    mapping: str  # of stylegan.mapping_digest
    description: str  # where they come from, for people
    columns: int = 0  # how many of them, one after the other, belong in a row; 0: any number


@dataclass(frozen=True)
class SelectedLayers:
    """SelectedLayers say what Layer Select chooses: which layers, and what of each."""

    choice: LayerChoice
    settings: Mapping[str, Any]  # of TrainSettings, those that Layer Select shows


@dataclass(frozen=True)
class Guidance:
    """Guidance is what SDS Guidance gathers; the training node makes a prior of it when it runs."""

    guider: Any  # the host's GUIDER: model, prompts and scales
    vae: Any  # the host's VAE
    guidance_scale: float | None  # for metadata; None: the GUIDER's own
    settings: Mapping[str, Any]  # of TrainSettings, those that SDS Guidance shows
    image_size: int  # side in pixels of the image that the model looks at, 0 = the model's own
    prompt: str  # the words behind it, for metadata
    negative_prompt: str
    extra_prompts: str  # the words behind the extra prompts
    extra_scales: tuple[float, ...]  # of the extra prompts, in the order of their words
    warnings: tuple[str, ...] = ()  # what should be known of the prompts before a training
    view_prompts: str = ""  # the words behind the prompts of views
