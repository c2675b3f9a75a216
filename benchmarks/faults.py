"""Faults that are injected into the command line, and what must come of them; see survival.py."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from comfyui_stylegan_fusion.miniature import GENERATOR, WEIGHTS
from runs import RUNS, Process, Row, Run, begin, contents, differing, go_on, whole_run

EVERY_STEP = """
import os, resource, shutil, signal, torch
adam, count = torch.optim.Adam.step, [0]
def step(optimizer):
    count[0] += 1
    at(count[0])
    return adam(optimizer)
torch.optim.Adam.step = step
"""
"""Calls at(n) before the n-th update."""

PRIOR = """
import torch
from comfyui_stylegan_fusion.sds.priors import diffusers
whole, count = diffusers.DiffusersPrior.guided, [0]
def guided(prior, z_t, *others):
    count[0] += 1
    return spoiled(whole(prior, z_t, *others), count[0])
diffusers.DiffusersPrior.guided = guided
"""
"""Lets spoiled(prediction, n) have the n-th prediction of the diffusion model."""

WINDOWS = """
import os, types
from comfyui_stylegan_fusion.training import files
def replace(source, target):
    with open("/proc/self/maps") as maps:
        if os.path.exists(target) and os.path.realpath(target) in maps.read():
            raise PermissionError(13, "Access is denied", str(target))
    os.replace(source, target)
files.os = types.SimpleNamespace(name="nt", fsync=os.fsync, replace=replace)
files.PATIENCE = 0.2
"""
"""No file that is mapped into memory can be replaced."""

KILL = EVERY_STEP + "def at(n):\n    if n == 6: os.kill(os.getpid(), signal.SIGKILL)"


def ends_well(process: Process, run: Run, folder: Path, saying: str = "") -> str | None:
    """What is wrong with a run that must end as if nothing had been."""
    if process.wait() != 0 or saying not in process.said():
        return f"expected {saying!r}: {process.said()}"
    return differing(folder, run)


def fails(process: Process, *sayings: str, folder: Path | None = None) -> str | None:
    """What is wrong with a run that must end with a sentence and leave the folder's results alone."""
    before = folder and contents(folder)
    status, said = process.wait(), process.said()
    if status != 1 or "Traceback" in said or not all(saying in said for saying in sayings):
        return f"expected {sayings}, exit status {status}: {said}"
    return "results were changed" if folder and contents(folder) != before else None


def rows(run: Run, folder: Path) -> list[Row]:
    stopped = folder / "stopped"
    begin(run.options, stopped, KILL).wait()
    return [
        _non_finite(run, folder),
        _out_of_memory(run, folder),
        _disk_full(run, folder),
        _read_only(run, folder),
        _deleted(run, folder),
        _damaged(run, folder, stopped),
        _mapped(run, folder, stopped),
    ]


def _non_finite(run: Run, folder: Path) -> Row:
    row = Row("gradients that are not finite")
    once = PRIOR + "def spoiled(eps, n): return eps * float('nan') if n == 4 else eps"
    process = begin(run.options, folder / "once", once)
    row.count(None if process.wait() == 0 and "step 2 skipped" in process.said() else process.said())
    always = PRIOR + "def spoiled(eps, n): return eps * float('nan') if n > 4 else eps"
    options = run.options.replace("--steps 6", "--steps 99")
    row.count(fails(begin(options, folder / "nan", always), "in 10 steps in a row", "kept as it was at step 2"))
    return row


def _out_of_memory(run: Run, folder: Path) -> Row:
    row = Row("out of memory")
    error = "raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2 GiB.')"
    out = folder / "pieces"
    process = begin(RUNS[1], out, PRIOR + f"def spoiled(eps, n):\n    if len(eps) > 2: {error}\n    return eps")
    row.count(None if process.wait() == 0 and len(contents(out)) == 4 else process.said())
    out = folder / "none left"
    process = begin(run.options, out, PRIOR + f"def spoiled(eps, n):\n    if n > 8: {error}\n    return eps")
    row.count(fails(process, "Out of memory with one image at a time", "trained for 4 of 6 steps is kept", "--resume"))
    row.count(ends_well(go_on(out), run, out), 0)
    script = Path(__file__).parents[1] / "tests" / "sds" / "small_memory.py"
    for spare, ending in ((700, "done 1"), (6, "TrainingOutOfMemory")):  # of a real process
        (folder / str(spare)).mkdir()
        ran = subprocess.run([sys.executable, script, folder / str(spare), str(spare)], capture_output=True, text=True)
        row.count(None if ran.returncode == 0 and ending in ran.stdout else ran.stdout + ran.stderr)
    return row


def _disk_full(run: Run, folder: Path) -> Row:
    row = Row("disk full")
    limit = (
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\ndef limit(size): resource.setrlimit(resource.RLIMIT_FSIZE, "
        "(size, resource.RLIM_INFINITY))\n"
    )
    out = folder / "for a while"
    meanwhile = f"{EVERY_STEP}{limit}def at(n): limit(100_000 if n < 5 else resource.RLIM_INFINITY)"
    row.count(ends_well(begin(run.options, out, meanwhile), run, out, "could not be saved at step 2"))
    out = folder / "at the end"
    process = begin(run.options, out, f"{EVERY_STEP}{limit}def at(n): limit(100_000 if n > 4 else -1)")
    row.count(fails(process, "could not be written (File too large)", "trained for 4 of 6 steps is kept", "--resume"))
    row.count(ends_well(go_on(out), run, out), 0)
    with _small_disk(folder / "small", "size=1m") as small:
        if small:
            process = begin(run.options, small / "out")
            problem = fails(process, "could not be written", "the generator is kept in")
            row.count(problem)
            kept = Path(process.said().rpartition("is kept in ")[2].partition(" instead")[0])
            if not problem:
                shutil.rmtree(kept.parent)
    return row


def _read_only(run: Run, folder: Path) -> Row:
    row = Row("read-only folder")
    with _small_disk(folder / "read-only", "ro") as small:
        if small:
            row.count(fails(begin(run.options, small / "out"), "cannot be written (Read-only file system)", "--output"))
    (folder / "file").write_bytes(b"where the folder should be")
    row.count(fails(begin(run.options, folder / "file" / "out"), "cannot be written (Not a directory)", "--output"))
    return row


@contextlib.contextmanager
def _small_disk(folder: Path, options: str) -> Iterator[Path | None]:
    """A disk of its own in the memory; None where that is not allowed."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    allowed = os.name == "posix" and subprocess.run(command, capture_output=True).returncode == 0
    try:
        yield folder if allowed else None
    finally:
        if allowed:
            subprocess.run(["umount", str(folder)], check=True)


def _deleted(run: Run, folder: Path) -> Row:
    row = Row("deleted files")
    out = folder / "deleted"
    process = begin(run.options, out, f"{EVERY_STEP}def at(n):\n    if n == 4: shutil.rmtree({str(out)!r})")
    row.count(ends_well(process, run, out))
    generator, model = folder / "cats.safetensors", folder / "model"
    shutil.copy(GENERATOR, generator)
    shutil.copytree(WEIGHTS / "diffusion", model)
    given = whole_run(f"{run.options} --generator {generator} --model {model}", folder / "given")
    out = folder / "given again"
    begin(given.options, out, KILL).wait()
    for path, sentence in ((generator, f"There is no file {generator}"), (model, f"{model} is not a diffusion model")):
        away = path.rename(path.with_name("away"))
        row.count(fails(go_on(out), sentence, "put back what it began with", folder=out))
        away.rename(path)
    row.count(ends_well(go_on(out), given, out), 0)
    return row


def _damaged(run: Run, folder: Path, stopped: Path) -> Row:
    row = Row("damaged files")

    def notes(change: Callable[[dict], None]) -> Callable[[Path], None]:
        def damage(out: Path) -> None:
            content = json.loads((out / "run.json").read_text())
            change(content["plan"])
            (out / "run.json").write_text(json.dumps(content))

        return damage

    def cut(name: str) -> Callable[[Path], None]:
        return lambda out: os.truncate(out / name, (out / name).stat().st_size // 2)

    injections = [
        (cut("run.json"), "run.json cannot be read"),
        (lambda out: (out / "run.json").write_text("[" * 100_000), "run.json cannot be read"),
        (lambda out: (out / "run.json").unlink(), "holds no run"),
        (notes(lambda plan: plan.update(save_every=0)), "run.json cannot be read"),
        (notes(lambda plan: plan.update(prompt=["a"])), "run.json cannot be read"),
        (notes(lambda plan: plan["settings"].update(steps="many")), "run.json cannot be read"),
        (notes(lambda plan: plan.update(prompt="another prompt")), "belongs to another run (different: guidance)"),
        (cut("training.safetensors"), "training.safetensors is damaged"),
        (lambda out: shutil.copy(GENERATOR, out / "training.safetensors"), "is no saved training"),
    ]
    for index, (damage, sentence) in enumerate(injections):
        out = folder / f"damaged {index}"
        shutil.copytree(stopped, out)
        damage(out)
        row.count(fails(go_on(out), sentence, folder=out))
    return row


def _mapped(run: Run, folder: Path, stopped: Path) -> Row:
    row = Row("files in use, by Windows' rules")
    out = folder / "own"  # what the program itself has read is in nobody's way
    shutil.copytree(stopped, out)
    row.count(ends_well(go_on(out, WINDOWS), run, out))
    out = folder / "others"
    shutil.copytree(stopped, out)
    hold = f"import mmap\nfile = open({str(out / 'generator.safetensors')!r}, 'rb')\n"
    hold += "held = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)"
    row.count(fails(go_on(out, WINDOWS + hold), "could not be written; the generator is kept in", folder=out))
    return row
