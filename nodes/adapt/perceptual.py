"""The node of the perceptual regularizer."""

from comfy_api.v0_0_2 import io

from ...sds.perceptual import PerceptualRegularizer
from ...stylegan.feature_files import WHERE_FROM
from ..features import NodeWithFeatures, features_input, load_network
from ..types import CATEGORY, RegularizerType, aliases
from .guidance import regularizer_output


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
