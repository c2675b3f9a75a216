"""The extension that ComfyUI loads: our nodes, and what goes with them."""

from comfy_api.v0_0_2 import ComfyExtension, io

from ..miniature.lora import GOLDEN_STATUE
from .adapt.guidance import ExtraPrompt, LayerSelect, SDSGuidance, ViewPrompts
from .adapt.optimizer import Optimizer
from .adapt.presets import register_presets
from .adapt.targets import MakeTargets, PreviewTargets, TargetsFromPictures
from .adapt.terms import (
    LPIPS,
    CLIPDirectional,
    Directional,
    DistillationTerm,
    DistributionMatchingTerm,
    Reconstruction,
    TargetLoss,
)
from .adapt.training import TrainGenerator
from .domain.guiding import DomainGuider, LoadDomain
from .domain.training import TrainDomain
from .error_names import name_exceptions
from .explore.alignment import AlignPortrait
from .explore.blending import BlendGenerators, MixDomains
from .explore.cameras import Camera, DrawDepth, Orbit
from .explore.editing import EditLatents, LatentWalk, StyleMixing
from .explore.latents import DrawLatents, PickLatents, SampleLatents
from .explore.projection import ProjectImage
from .explore.sampling import SampleGenerator
from .explore.shapes import ExtractShape
from .files.conversion import ConvertCheckpoint
from .files.differences import ApplyDifference, SaveDifference
from .files.generators import LoadGenerator, SaveGenerator
from .files.miniature import MINIATURE_LORA, LoadMiniature, MiniatureDrawings, MiniatureLoRA
from .host.folders import offer_portrait, register_folders
from .host.loras import replace_stock_loaders
from .host.server import routes
from .judge.compare import CompareSamples
from .judge.evaluation import EvaluateGenerator
from .panel.routes import register_routes
from .panels import PANELS
from .web_files import serve_web_files


class StyleGANFusionExtension(ComfyExtension):
    """StyleGANFusionExtension is this pack as the host knows it."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Return our nodes. The host asks once, before its server starts: what they need of it is registered here."""
        name_exceptions()
        register_folders()
        offer_portrait()
        replace_stock_loaders(GOLDEN_STATUE.name, MINIATURE_LORA)
        serve_web_files(routes())
        register_routes(routes(), PANELS)
        register_presets(routes())
        return [
            LoadGenerator,
            SDSGuidance,
            ExtraPrompt,
            Directional,
            Reconstruction,
            LPIPS,
            DistillationTerm,
            DistributionMatchingTerm,
            CLIPDirectional,
            PreviewTargets,
            MakeTargets,
            TargetsFromPictures,
            TargetLoss,
            Optimizer,
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
            AlignPortrait,
            ProjectImage,
            Camera,
            Orbit,
            DrawDepth,
            ExtractShape,
            SaveGenerator,
            ConvertCheckpoint,
            LoadMiniature,
            MiniatureLoRA,
            MiniatureDrawings,
            TrainDomain,
            LoadDomain,
            DomainGuider,
            ViewPrompts,
            SaveDifference,
            ApplyDifference,
            MixDomains,
        ]
