"""The ComfyUI side: our nodes."""

from comfy_api.v0_0_2 import ComfyExtension, io
from server import PromptServer

from . import files
from .blending import BlendGenerators
from .compare import CompareSamples
from .conversion import ConvertCheckpoint
from .editing import EditLatents, LatentWalk, StyleMixing
from .evaluation import EvaluateGenerator
from .generators import LoadGenerator, SampleGenerator, SaveGenerator
from .guidance import Directional, ExtraPrompt, LayerSelect, Reconstruction, SDSGuidance
from .latents import DrawLatents, PickLatents, SampleLatents
from .miniature import LoadMiniature
from .panel_routes import register_routes
from .perceptual import LPIPS
from .projection import ProjectImage
from .training import TrainGenerator
from .web_files import serve_web_files


class StyleGANFusionExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        files.register_folders()
        serve_web_files(PromptServer.instance.routes)
        register_routes(PromptServer.instance.routes)
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
            CompareSamples,
            EvaluateGenerator,
            SampleLatents,
            PickLatents,
            DrawLatents,
            StyleMixing,
            LatentWalk,
            EditLatents,
            BlendGenerators,
            ProjectImage,
            SaveGenerator,
            ConvertCheckpoint,
            LoadMiniature,
        ]
