"""Trainings in a real ComfyUI that are cancelled, killed, starved of memory and of disk space, and queued many times."""

import json
import os
import re
import shutil
import signal
import sys
from pathlib import Path

import graphs
import pytest
import torch
from comfy_host import Host, HostNotFound, PromptRejected, find_comfyui
from comfyui_stylegan_fusion.miniature import WEIGHTS
from comfyui_stylegan_fusion.stylegan import Generator, GeneratorConfig, read_metadata, save_generator
from host_trainings import assert_same, made, run_until, unfinished, weights, went_on
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import soak

STEPS = 6
resource = pytest.importorskip("resource", reason="limits of another process are Linux's")
ENDLESS = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
pytestmark = pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="limits of another process are Linux's")


def started(base):
    try:
        return Host(*find_comfyui(), base)
    except HostNotFound as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A ComfyUI whose process may be limited without harm to other tests."""
    with pytest.MonkeyPatch.context() as patch:
        # The C library asks the system for each large tensor's memory and gives it back at once: limits are met exactly.
        patch.setenv("MALLOC_MMAP_THRESHOLD_", str(1 << 17))
        with started(tmp_path_factory.mktemp("survival")) as running:
            yield running


def training(prefix, steps=STEPS, **changes):
    return graphs.training(steps, **{"layers.mode": "all", "save.filename_prefix": prefix, **changes})


def save_large(path):
    """A generator of 512 pixels: a step's tensors have many MiB each, so that no small request is the first to fail."""
    path.parent.mkdir(exist_ok=True)
    torch.manual_seed(0)
    save_generator(Generator(GeneratorConfig(512, 16, 16, 0, 2, 4096, 16)), path)


def of_large(prefix, steps, **changes):
    graph = training(prefix, steps, **{"train.generator": ["load", 0], "train.batch_size": 1, **changes})
    return graph | loading("large.safetensors")


def renumbered(graph):
    """The same graph as a page numbers it that has opened it again."""
    numbers = {name: str(number) for number, name in enumerate(reversed(graph), 100)}
    text = json.dumps(graph)
    for name, number in numbers.items():
        text = text.replace(f'["{name}", ', f'["{number}", ')
    return {numbers[name]: node for name, node in json.loads(text).items()}


@pytest.fixture(scope="module")
def whole(own):
    """The weights of a training that nothing ended."""
    run = own.run(training("whole"))
    assert run.succeeded, run.error
    assert unfinished(own) == []
    return weights(own, "whole")


def test_a_cancelled_training_goes_on_when_the_graph_runs_again(own, whole):
    run = run_until(own, training("again", **{"train.samples": 3}), 3, own.interrupt)
    assert run.interrupted
    assert re.search(r"Run the same graph again, with seed 1, to go on from step [34]\.", run.last_text("train"))
    assert len(unfinished(own)) == 1

    other = own.run(training("other", 1, **{"train.learning_rate": 0.002}))
    assert other.succeeded and went_on(other) is None
    seeded = own.run(training("seeded", **{"train.seed": 2}))
    assert seeded.succeeded and went_on(seeded) is None
    assert re.search(
        r"With seed 1 this training ended at step [34]; give that seed to go on with it\.", seeded.texts[0]
    )
    assert len(unfinished(own)) == 1

    run = own.run(renumbered(training("again", **{"train.samples": 2})))
    assert run.succeeded, run.error
    assert went_on(run) in (3, 4)
    assert f"going on from step {went_on(run)} of {STEPS}" in own.log
    assert_same(weights(own, "again"), whole)
    assert unfinished(own) == []
    # Whatever happens before a graph has saved it.
    assert_same(load_file(own.output / "stylegan" / "latest.safetensors"), whole)
    assert (own.output / "stylegan" / "latest-but-one.safetensors").exists()


def test_a_damaged_unfinished_training_is_named_and_can_be_started_over(own, whole):
    assert run_until(own, training("damaged", **{"train.samples": 3}), 2, own.interrupt).interrupted
    (path,) = unfinished(own)
    path.write_bytes(path.read_bytes()[:10_000])
    run = own.run(training("damaged", **{"train.samples": 4}))
    message = run.error["exception_message"]
    assert f"{path.name} is damaged" in message and 'Or set when_unfinished to "start over".' in message
    run = own.run(training("damaged", **{"train.when_unfinished": "start over"}))
    assert run.succeeded and went_on(run) is None
    assert_same(weights(own, "damaged"), whole)
    assert unfinished(own) == []


def test_starting_over_forgets_what_was_trained(own, whole):
    assert run_until(own, training("anew", **{"train.samples": 3}), 2, own.interrupt).interrupted
    run = own.run(training("anew", **{"train.when_unfinished": "start over"}))
    assert run.succeeded and went_on(run) is None
    assert_same(weights(own, "anew"), whole)


def test_a_killed_comfyui_goes_on_after_its_restart(whole, tmp_path):
    graph = training("killed", **{"train.save_every": 2})
    with started(tmp_path) as host:
        host_id, steps = host.process_id, []

        def kill(kind, data):
            if kind == "progress" and data["max"] == STEPS:
                steps.append(data["value"])
                if data["value"] >= 5:
                    os.kill(host_id, signal.SIGKILL)

        with pytest.raises((OSError, Exception), match=r"lost|closed|reset"):
            host.follow(host.submit(graph), kill)
    with started(tmp_path) as host:
        assert len([path for path in unfinished(host) if path.suffix == ".safetensors"]) == 1
        run = host.run(graph)
        assert run.succeeded and went_on(run) == 4, run.error
        assert_same(weights(host, "killed"), whole)
        assert unfinished(host) == []


def memory(host, kind="VmRSS"):
    """Bytes; resident, or of addresses."""
    return 1024 * int(re.search(rf"{kind}:\s+(\d+)", Path(f"/proc/{host.process_id}/status").read_text())[1])


def leave(host, size):
    """Let a process have `size` more bytes of addresses than now."""
    limit = memory(host, "VmSize") + size
    resource.prlimit(host.process_id, resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))


def lift(host, kind=resource.RLIMIT_AS):
    resource.prlimit(host.process_id, kind, ENDLESS)


def test_a_batch_that_does_not_fit_is_trained_in_pieces(own, whole):
    graph = training("pieces", 2, **{"train.batch_size": 16})
    try:
        run = run_until(own, graph, 1, lambda: leave(own, 250 << 20))
    finally:
        lift(own)
    assert run.succeeded, run.error
    assert re.search(r"Out of memory in step 2: going on with \d samples at a time\.", own.log)


def test_a_step_that_cannot_fit_ends_with_advice_and_comfyui_goes_on(own, whole):
    save_large(own.models / "stylegan" / "large.safetensors")
    assert own.run(of_large("fits", 1, **{"train.seed": 7})).succeeded
    before, kept = memory(own), set(made(own, "recovered"))
    starved = of_large("starved", 4)
    try:
        run = run_until(own, starved, 2, lambda: leave(own, 24 << 20))
    finally:
        lift(own)
    message = run.error["exception_message"]
    assert "Out of memory" in message and "Choose a smaller image size" in message
    assert "Run the same graph again" in message
    (path,) = set(made(own, "recovered")) - kept
    assert path.name in message and int(read_metadata(path)["steps_done"]) >= 2
    assert memory(own) < 1.05 * before
    run = own.run(starved)
    assert run.succeeded and went_on(run) >= 2
    assert memory(own) < 1.05 * before


def test_a_full_disk_costs_nothing_that_was_trained(own, whole):
    before = {path: path.read_bytes() for path in made(own, "whole")}
    resource.prlimit(own.process_id, resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
    try:
        anew = {"train.when_unfinished": "start over"}
        run = own.run(training("full", **{"train.save_every": 2, "train.samples": 3, **anew}))
    finally:
        lift(own, resource.RLIMIT_FSIZE)
    warning = r"The training could not be saved at step 2 \(.*File too large.*\); free some space"
    assert any(re.search(warning, text) for text in run.texts), run.texts
    assert "could not be written (File too large). Nothing there was changed" in run.error["exception_message"]
    assert made(own, "full") == [] and before == {path: path.read_bytes() for path in made(own, "whole")}
    assert not list((own.output / "stylegan").rglob("*.tmp"))
    run = own.run(training("full", **{"train.save_every": 2, "train.samples": 3, **anew}))  # only saving is left to do
    assert run.succeeded and "train" not in dict(run.previews)
    assert_same(weights(own, "full"), whole)


def test_a_folder_that_cannot_be_written_costs_nothing_that_was_trained(own, whole):
    folder = own.output / "stylegan"
    folder.rename(own.output / "aside")
    try:
        folder.write_text("")
        run = run_until(own, training("aside", **{"train.save_every": 1}), 3, own.interrupt)
        assert run.interrupted
        rescued = re.search(r"The generator as trained for \d steps is in (\S+\.safetensors);", run.last_text("train"))
        assert read_metadata(rescued[1])["steps_done"] in ("3", "4")
        shutil.rmtree(Path(rescued[1]).parent)
        assert any("The training could not be saved at step 1" in text for text in run.texts)
        run = own.run(training("aside", 1, **{"train.when_unfinished": "start over"}))
        assert "could not be written" in run.error["exception_message"]
    finally:
        folder.unlink()
        (own.output / "aside").rename(folder)
    assert own.run(training("aside", 1)).succeeded


def mapped(host):
    """Generator files that a process has mapped, which Windows would neither replace nor delete."""
    lines = Path(f"/proc/{host.process_id}/maps").read_text().splitlines()
    return [line for line in lines if "stylegan/" in line and line.endswith(".safetensors")]


def loading(file, **nodes):
    return {"load": {"class_type": "StyleGANFusionLoadGenerator", "inputs": {"file": file}}, **nodes}


def test_no_file_stays_mapped_and_deleted_ones_get_a_sentence(own, whole):
    file = own.models / "stylegan" / "loaded.safetensors"
    file.write_bytes((WEIGHTS / "generator.safetensors").read_bytes())
    convert = {
        "file": file.name,
        "ending": ".safetensors",
        "filename_prefix": "beside",
        "license_note": "",
        "crop": "auto",
    }
    graph = loading(
        file.name,
        save={
            "class_type": "StyleGANFusionSaveGenerator",
            "inputs": {"generator": ["load", 0], "filename_prefix": "beside"},
        },
        convert={"class_type": "StyleGANFusionConvertCheckpoint", "inputs": convert},
    )
    assert own.run(graph).succeeded and len(made(own, "beside")) == 2
    assert mapped(own) == []

    steps = 3
    graph = training("beside", steps, **{"train.generator": ["load", 0]}) | loading(file.name)
    run = run_until(own, graph, 1, file.unlink)
    assert run.succeeded and len(made(own, "beside")) == 3 and mapped(own) == []

    file.write_bytes((WEIGHTS / "generator.safetensors").read_bytes())
    first = own.submit(training("busy", steps, **{"train.seed": 77}))
    graph = loading(file.name, save=graph["save"] | {"inputs": {"generator": ["load", 0], "filename_prefix": "gone"}})
    second = own.submit(graph)
    file.unlink()
    assert own.follow(first).succeeded
    assert "There is no generator file 'loaded.safetensors'" in own.follow(second).error["exception_message"]
    with pytest.raises(PromptRejected, match="There is no generator file"):
        own.submit(graph)


def test_a_collapse_is_told_and_the_state_before_it_comes_out(own, whole):
    # Without a regularizer diversity falls; whatever is lost of it counts here, for half of it would take minutes.
    changes = {"train.learning_rate": 0.01, "train.batch_size": 1, "train.collapse_threshold": 1.0}
    graph = training("collapsed", 50, **changes)
    del graph["train"]["inputs"]["regularizer"], graph["regularizer"]
    graph["best"] = {
        "class_type": "StyleGANFusionSaveGenerator",
        "inputs": {"generator": ["train", 4], "filename_prefix": "best"},
    }
    run = own.run(graph)
    assert run.succeeded, run.error
    warning = "The images are becoming alike: at step 50"
    assert warning in run.last_text("train") and warning in own.log
    assert "directional regularizer" in run.last_text("train") and "learning rate" in run.last_text("train")
    last, best = weights(own, "collapsed"), weights(own, "best")
    assert any(not torch.equal(last[name], best[name]) for name in last)
    assert int(read_metadata(made(own, "best")[0])["steps_done"]) < 50


def test_memory_stays_where_it_is_over_many_trainings(own, whole):
    found = soak.soak(own, soak.adapting, 7)
    assert soak.growth(found) < 0.05
