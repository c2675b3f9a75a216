"""The extension that ComfyUI loads: our nodes, and what goes with them."""

from comfy_api.v0_0_2 import ComfyExtension, io

from .adapt.guidance import ExtraPrompt, LayerSelect, SDSGuidance
from .adapt.terms import LPIPS, Directional, DistillationTerm, Reconstruction
from .adapt.training import PANELS, TrainGenerator
from .explore.blending import BlendGenerators
from .explore.editing import EditLatents, LatentWalk, StyleMixing
from .explore.latents import DrawLatents, PickLatents, SampleLatents
from .explore.projection import ProjectImage
from .explore.sampling import SampleGenerator
from .files.conversion import ConvertCheckpoint
from .files.generators import LoadGenerator, SaveGenerator
from .files.miniature import LoadMiniature
from .host.folders import register_folders
from .host.server import routes
from .judge.compare import CompareSamples
from .judge.evaluation import EvaluateGenerator
from .panel.routes import register_routes
from .web_files import serve_web_files


class StyleGANFusionExtension(ComfyExtension):
    """StyleGANFusionExtension is this pack as the host knows it."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Return our nodes. The host asks once, before its server starts: what they need of it is registered here."""
        register_folders()
        serve_web_files(routes())
        register_routes(routes(), PANELS)
        return [
            LoadGenerator,
            SDSGuidance,
            ExtraPrompt,
            Directional,
            Reconstruction,
            LPIPS,
            DistillationTerm,
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
