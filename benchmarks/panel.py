"""What the live panel costs a training: `python benchmarks/panel.py --steps 150 --rounds 3`.

ComfyUI's own Python trains the miniature with the panel and with nothing at all that reports, in turns, and compares the
medians. Beside it stands what the panel's own clock says, which decides when it may look at the training again. Needs a
ComfyUI, found as by the tests."""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROJECT = Path(__file__).absolute().parents[1]
INSIDE = "inside ComfyUI"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    sys.path.insert(0, str(PROJECT / "tests" / "host"))
    from comfy_host import find_comfyui, own_environment

    folder, python = find_comfyui()
    arguments = [INSIDE, str(options.steps), str(options.rounds)]
    subprocess.run([python, __file__, *arguments], cwd=folder, env=own_environment(), check=True)


def compare(steps: int, rounds: int) -> None:
    sys.path.insert(0, str(PROJECT / "tests" / "host"))
    from in_host import start

    with tempfile.TemporaryDirectory() as base:
        start(str(PROJECT), "--base-directory", base)
        import asyncio

        import torch
        from project.miniature.settings import SDS_SETTINGS, prompt_for
        from project.nodes.host import native_miniature
        from project.nodes.host.folders import moments_folder
        from project.nodes.host.guiders import text_guider
        from project.nodes.host.prior import ComfyPrior
        from project.nodes.host.running_node import HostNode
        from project.nodes.host.server import PanelPage
        from project.nodes.panel.panel_report import PanelReport
        from project.nodes.panel.panels import Panels
        from project.sds import DirectionalRegularizer, TrainSettings, train_generator
        from project.stylegan import load_checkpoint
        from server import PromptServer

        PromptServer(asyncio.new_event_loop()).client_id = "nobody"
        with torch.inference_mode():
            clip = native_miniature.load_clip()
            words = [
                clip.encode_from_tokens_scheduled(clip.tokenize(prompt_for(domain))) for domain in ("fox", "person")
            ]
            guider = text_guider(native_miniature.load_model(), *words, SDS_SETTINGS.guidance_scale)
            prior = ComfyPrior(guider, native_miniature.load_vae())
        generator = load_checkpoint(PROJECT / "miniature" / "weights" / "generator.safetensors").generator
        settings = TrainSettings(steps=steps, batch_size=4)

        def seconds(report) -> float:
            begin = time.perf_counter()
            train_generator(generator, prior, settings, [DirectionalRegularizer(2.0)], progress=report)
            return time.perf_counter() - begin

        seconds(lambda progress: None)  # loads and warms up
        panels = Panels(PanelPage(), moments_folder)
        with_panel, without, own, moments = [], [], [], 0
        for number in range(rounds):
            panel = panels.open(f"round {number}")
            panel.begin(str(number), steps, len(generator.synthesis.layers), 0)
            report = PanelReport(settings.steps, HostNode("1"), panel)
            with_panel.append(seconds(report))
            own.append(report.spent / with_panel[-1])
            moments = len(panel.moments.steps)
            without.append(seconds(None))
            print(f"round {number + 1}: {with_panel[-1]:.1f} s with the panel, {without[-1]:.1f} s without", flush=True)
    ratio = statistics.median(with_panel) / statistics.median(without)
    print(f"median with / without: {ratio:.4f}; by the panel's own clock {statistics.median(own):.4f} of the time")
    print(f"{steps} steps, {moments} moments to go back to, {torch.get_num_threads()} threads")


if __name__ == "__main__":
    if sys.argv[1:2] == [INSIDE]:
        compare(int(sys.argv[2]), int(sys.argv[3]))
    else:
        main()
