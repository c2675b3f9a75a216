"""Training in ComfyUI as people start it to save memory: weights in half and less, models moved out at once.

On the CPU ComfyUI computes in float32 whatever weights are kept in. --lowvram and --novram exclude --cpu, so that they
need a GPU, and so do the fast paths of each precision."""

import re
import shutil
from pathlib import Path

import graphs
import pytest
import torch
from comfy_host import Host, HostNotFound, find_comfyui

MODES = {
    "float16": (("--fp16-unet", "--fp16-vae"), 0.01),
    "bfloat16, models not kept": (("--bf16-unet", "--bf16-vae", "--disable-smart-memory"), 0.02),
    "float8": (("--fp8_e4m3fn-unet",), 0.2),
}
"""Arguments by name, and how far the loss may be from that in float32."""

WEIGHTS = {"--fp16-unet": "torch.float16", "--bf16-unet": "torch.bfloat16", "--fp8_e4m3fn-unet": "torch.float8_e4m3fn"}


def training():
    """Two steps that hardly change the generator: the second one's loss compares predictions."""
    changes = {"train.learning_rate": 0.00001, "layers.mode": "all", "train.batch_size": 4}
    graph = graphs.training(2, **changes, **{"guidance.model": ["again", 0], "guidance.vae": ["again", 1]})
    graph["again"] = {"class_type": "AsStarted", "inputs": {"model": ["miniature", 0], "vae": ["miniature", 2]}}
    return graph


def loss(base, arguments, cpu=True):
    """The mean squared difference between predicted noise and noise in the second step; and ComfyUI's log."""
    pack = Path(__file__).parent / "precision_pack"
    with Host(*find_comfyui(), base, extensions=(pack,), arguments=arguments, cpu=cpu) as host:
        run = host.run(training())
        assert run.succeeded, run.error
        assert "skipped" not in host.log
        return float(re.search(r"step 2 of 2.*\nsds ([\d.e-]+)", run.last_text("train"))[1]), host.log


@pytest.fixture(scope="module")
def in_float32(tmp_path_factory):
    try:
        return loss(tmp_path_factory.mktemp("float32"), ())[0]
    except HostNotFound as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("mode", MODES)
def test_weights_of_less_precision_guide_as_those_in_float32(in_float32, tmp_path, mode):
    arguments, tolerance = MODES[mode]
    found, log = loss(tmp_path, arguments)
    assert f"model weight dtype {WEIGHTS[arguments[0]]}, manual cast: torch.float32" in log
    assert found == pytest.approx(in_float32, rel=tolerance)


@pytest.mark.skipif(not (torch.cuda.is_available() and shutil.which("nvidia-smi")), reason="excludes --cpu")
@pytest.mark.parametrize("mode", ["--lowvram", "--novram"])
def test_models_that_stay_off_the_gpu_guide_as_on_it(in_float32, tmp_path, mode):
    found, _ = loss(tmp_path, (mode,), cpu=False)
    assert found == pytest.approx(in_float32, rel=0.02)
