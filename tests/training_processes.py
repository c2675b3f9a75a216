"""What the processes of test_parallel do: train something small together, and write what came of it.

python -m torch.distributed.run --nproc-per-node 2 training_processes.py JOB FOLDER"""

import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import torch
from comfyui_stylegan_fusion.cli.signals import stop_noted
from comfyui_stylegan_fusion.sds import (
    AllLayers,
    DirectionalRegularizer,
    DistributionMatching,
    SavedTraining,
    TopKLayers,
    TrainingStopped,
    train_generator,
)
from comfyui_stylegan_fusion.sds.training import GeneratorTraining
from comfyui_stylegan_fusion.training.loop import fit
from comfyui_stylegan_fusion.training.parallel import ALONE, joined
from gaussian import GaussianPrior
from trainings import settings, small_generator

BATCHES = 4  # of a step
JOBS = {
    "directional": {"terms": lambda: [DirectionalRegularizer(1.0)], "steps": 50},
    "top k styles": {
        "layers": TopKLayers(2, 2),
        "settings": {"parameterization": "styles"},
        "terms": lambda: [DirectionalRegularizer(1.0)],
    },
    "second network": {
        "terms": lambda: [DistributionMatching(rank=0, warmup=2, updates=2, learning_rate=0.01)],
    },
    "skipped": {"layers": TopKLayers(2, 2), "terms": list},
    "lost": {"terms": list, "steps": 40},
    "memory": {"terms": list},
}


class Prior(GaussianPrior):
    """A prior that loses a process at a step, or its memory."""

    def guided(self, z_t, t, scaling=1.0):
        job, rank = os.environ.get("JOB", ""), int(os.environ.get("RANK", "0"))
        world = int(os.environ.get("WORLD_SIZE", "1"))
        if job == "lost" and rank == world - 1 and world > 1 and len(self.calls) == int(os.environ["DIES_AT"]):
            os.kill(os.getpid(), signal.SIGKILL)
        if job == "memory" and rank == world - 1 and len(self.calls) in (1, 5):
            self.calls.append((0, t))
            raise torch.OutOfMemoryError("out of memory, for the test")
        found = super().guided(z_t, t, scaling)
        if job == "skipped" and rank == world - 1 and len(self.calls) == 7:
            return found * float("nan")
        return found


def train(job: str, folder: Path, parallel=ALONE, steps: int | None = None):
    """Train, and return the result."""
    given = dict(JOBS[job])
    asked = settings(steps=steps or given.get("steps", 12), accumulation=BATCHES, **given.get("settings", {}))
    saved = SavedTraining(folder / "training.safetensors", every=None)
    arguments = small_generator(), Prior(), asked, given["terms"](), given.get("layers")
    return train_generator(*arguments, saved=saved, parallel=parallel)


def first_gradients(parallel=ALONE) -> dict[str, torch.Tensor]:
    """The gradients of a training's first step, by the names of what they are of."""
    asked, found = settings(steps=1, accumulation=BATCHES), {}
    run = GeneratorTraining(small_generator(), Prior(), asked, [DirectionalRegularizer(1.0)], AllLayers(), parallel)
    (phase,) = run.training.phases
    names = {parameter: name for name, parameter in phase.module.named_parameters()}
    phase.update = lambda outcome, step: found.update({names[p]: g for p, g in outcome.gradients.items()})
    fit(run.training)
    return found


def main(job: str, folder: Path) -> int:
    os.environ["JOB"] = job
    torch.set_num_threads(1)
    with joined(torch.device("cpu")) as parallel, stop_noted():
        gradients = first_gradients(parallel) if job == "directional" else {}
        try:
            result = train(job, folder, parallel)
        except TrainingStopped as error:
            (folder / f"stopped-{parallel.rank}").write_text(f"{error}")
            return 1
        notes = [(record.losses, record.notes, record.skipped) for record in result.history.records]
        written = {"weights": result.generator.state_dict(), "notes": notes, "gradients": gradients}
        torch.save(written, folder / f"result-{parallel.rank}.pt")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
