"""The ComfyUI side: our nodes."""

from comfy_api.v0_0_2 import ComfyExtension, io

from . import files
from .conversion import ConvertCheckpoint
from .generators import LoadGenerator, SampleGenerator, SaveGenerator
from .guidance import Directional, ExtraPrompt, LayerSelect, Reconstruction, SDSGuidance
from .miniature import LoadMiniature
from .perceptual import LPIPS
from .training import TrainGenerator


class StyleGANFusionExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        files.register_folders()
        return [
            LoadGenerator,
            SDSGuidance,
            ExtraPrompt,
            Directional,
            Reconstruction,
            LPIPS,
            LayerSelect,
            TrainGenerator,
            SampleGenerator,
            SaveGenerator,
            ConvertCheckpoint,
            LoadMiniature,
        ]
