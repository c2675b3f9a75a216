"""Trainings in several processes, connected by gloo: the same weights as in one, whatever is trained; and what becomes of a
training that loses one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from comfyui_stylegan_fusion.training.loop import Training, fit
from comfyui_stylegan_fusion.training.parallel import ALONE, TorchDistributed
from training_processes import JOBS, first_gradients, train
from trainings import small_generator

WORKER = Path(__file__).parents[1] / "training_processes.py"


def together(count: int, job: str, folder: Path, **environment) -> subprocess.CompletedProcess:
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    return subprocess.run(
        [*command, str(WORKER), job, str(folder)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )


def results(folder: Path, count: int) -> list[dict]:
    return [torch.load(folder / f"result-{rank}.pt", weights_only=True) for rank in range(count)]


def furthest(a: dict, b: dict) -> float:
    return max((value - b[name]).abs().max().item() for name, value in a.items())


@pytest.mark.parametrize(
    ("job", "count"), [("directional", 2), ("directional", 4), ("top k styles", 3), ("second network", 2)]
)
def test_several_processes_train_what_one_does(tmp_path, job, count):
    (tmp_path / "alone").mkdir()
    alone = train(job, tmp_path / "alone")
    done = together(count, job, tmp_path / "together")
    assert done.returncode == 0, done.stderr
    found = results(tmp_path / "together", count)
    moved = furthest(alone.generator.state_dict(), small_generator().state_dict())
    for one in found:
        assert furthest(one["weights"], found[0]["weights"]) == 0.0  # bit for bit in all processes
        assert furthest(one["weights"], alone.generator.state_dict()) < 1e-5 < 1e-2 * moved
    if job == "directional":  # the gradients of a first step
        gradients = first_gradients()
        assert gradients.keys() == found[0]["gradients"].keys()
        largest = max(value.abs().max() for value in gradients.values())
        assert all(furthest(one["gradients"], gradients) < 1e-6 < 1e-3 * largest for one in found)
    for (losses, notes, skipped), record in zip(found[0]["notes"], alone.history.records, strict=True):
        assert skipped is None and notes.get("layers") == record.notes.get("layers")
        assert notes.get("t", 0.0) == pytest.approx(record.t)
        assert losses == pytest.approx(record.losses, rel=1e-4)


def test_a_process_that_is_lost_ends_the_training_with_a_saved_state_that_another_number_goes_on_with(tmp_path):
    (tmp_path / "alone").mkdir()
    alone = train("lost", tmp_path / "alone")
    broken = tmp_path / "broken"
    done = together(2, "lost", broken, DIES_AT="22")  # two batches a step: in the twelfth
    assert done.returncode != 0
    assert (broken / "stopped-0").read_text().startswith("The training ended after 11 of 40 steps: another process")
    done = together(4, "lost", broken, DIES_AT="1000000")
    assert done.returncode == 0, done.stderr
    (first, *others) = results(broken, 4)
    assert furthest(first["weights"], alone.generator.state_dict()) < 1e-5
    assert all(furthest(one["weights"], first["weights"]) == 0 for one in others)


def test_memory_that_runs_out_in_one_process_makes_all_compute_the_step_again(tmp_path):
    (tmp_path / "alone").mkdir()
    alone = train("directional", tmp_path / "alone")
    del alone
    done = together(2, "memory", tmp_path / "together")
    assert done.returncode == 0, done.stderr
    first, second = results(tmp_path / "together", 2)
    assert furthest(first["weights"], second["weights"]) == 0.0
    assert len(first["notes"]) == 12 and all(skipped is None for *_, skipped in first["notes"])


def test_a_step_that_one_process_skips_is_skipped_by_all(tmp_path):
    done = together(3, "skipped", tmp_path)
    assert done.returncode == 0, done.stderr
    found = results(tmp_path, 3)
    for one in found:
        assert furthest(one["weights"], found[0]["weights"]) == 0.0
        assert [step for step, (*_, skipped) in enumerate(one["notes"]) if skipped] == [1]


def test_shares_are_all_batches_each_once():
    for world in range(1, 6):
        for count in range(world, 9):
            shares = [TorchDistributed(rank, world).share(count) for rank in range(world)]
            assert [index for share in shares for index in share] == list(range(count))
            assert all(shares)
    assert ALONE.share(3) == range(3)


def test_more_processes_than_batches_are_refused():
    with pytest.raises(ValueError, match="1 batch for 2 processes; start fewer"):
        fit(Training([], 3, parallel=TorchDistributed(0, 2)))


def test_every_job_is_tried():
    assert set(JOBS) == {"directional", "top k styles", "second network", "skipped", "lost", "memory"}
