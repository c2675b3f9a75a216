"""The node of the perceptual regularizer."""

import logging
from weakref import WeakValueDictionary

from comfy_api.v0_0_2 import io

from ..metrics.lpips import Features
from ..miniature.perceptual import load_features
from ..sds.perceptual import PerceptualRegularizer
from ..stylegan.feature_files import WHERE_FROM, linear_file
from . import files
from .guidance import regularizer_output
from .inputs import complaint
from .types import CATEGORY, RegularizerType, aliases

logger = logging.getLogger(__name__)

BUNDLED = "miniature"

_in_memory: WeakValueDictionary[str, Features] = WeakValueDictionary()


def features_input(tooltip: str) -> io.Combo.Input:
    return io.Combo.Input("features", options=[BUNDLED, *files.network_names()], default=BUNDLED, tooltip=tooltip)


class NodeWithFeatures(io.ComfyNode):
    """A node with the input `features`: it runs again when a file behind the choice is another one."""

    @classmethod
    def validate_inputs(cls, features):
        return complaint(network_state, features)

    @classmethod
    def fingerprint_inputs(cls, features, **_):
        return features and network_state(features)


class LPIPS(NodeWithFeatures):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StyleGANFusionLPIPSRegularizer",
            display_name="LPIPS Regularizer",
            category=CATEGORY,
            **aliases("stylegan", "loss", "perceptual", "vgg", "keep identity", "preserve"),
            description="Keeps what each image looks like close to what the generator drew before (LPIPS, the perceptual "
            f"distance). The features of the miniature come with this pack; those of VGG16 you put into models/lpips. "
            f"{WHERE_FROM}. Nothing in a file is ever executed.",
            inputs=[
                io.Float.Input(
                    "weight",
                    default=100.0,
                    min=0.0,
                    max=100_000.0,
                    step=0.05,  # the page rounds to it
                    tooltip="Strength, for Stable Diffusion at 512 pixels. With VGG16 and its calibration the method used "
                    "600 to 2000; without the calibration, or with the features of the miniature, 60 to 200 does about "
                    "the same. For the diffusion model of the miniature 1 to 3.",
                ),
                features_input(
                    "The network that compares the images: that of the miniature, which has seen drawings only, or VGG16 "
                    f"from a file in models/lpips. {WHERE_FROM}. Press R for new files."
                ),
                RegularizerType.Input("previous", optional=True, tooltip="Another regularizer, to use both."),
            ],
            outputs=[regularizer_output()],
        )

    @classmethod
    def execute(cls, weight, features, previous=()) -> io.NodeOutput:
        return io.NodeOutput((*previous, PerceptualRegularizer(weight, load_network(features))))


def load_network(name: str) -> Features:
    """One copy for all nodes, as long as one of them holds it and its files stay as they are."""
    state = network_state(name)
    network = _in_memory.get(state)
    if network is None:
        network = _in_memory[state] = load_features(name if name == BUNDLED else files.network_path(name))
        logger.info("StyleGAN Fusion read %s: %s", name, network.name)
    return network


def network_state(name: str) -> str:
    """Differs whenever one of the files behind a choice is another one. Raises ValueError for unknown names."""
    if name == BUNDLED:
        return BUNDLED
    path = files.network_path(name)
    return " ".join(files.state_of_file(part) for part in (path, linear_file(path)) if part is not None)
