"""The node that says how gradients become steps."""

from comfy_api.v0_0_2 import io

from ...sds import TrainSettings
from ...sds.settings import OPTIMIZER
from ..settings import SettingInputs, settings_from
from ..types import CATEGORY, OptimizerType, aliases


class Optimizer(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="StyleGANFusionOptimizer",
            display_name="Optimizer",
            category=CATEGORY,
            **aliases("stylegan", "adam", "muon", "ema", "average of weights", "learning rate", "bfloat16"),
            description="How gradients become steps: Adam as in the paper or Muon, an average of the weights, and the numbers "
            "to compute with. Train Generator's learning_rate suits both: Muon takes 20 times it.",
            inputs=SettingInputs(TrainSettings, OPTIMIZER).rest(),
            outputs=[OptimizerType.Output(display_name="optimizer", tooltip="For Train Generator.")],
        )

    @classmethod
    def execute(cls, **inputs) -> io.NodeOutput:
        settings = settings_from(TrainSettings, OPTIMIZER, inputs)
        TrainSettings(**settings)  # raises what is wrong with them
        return io.NodeOutput(settings)
