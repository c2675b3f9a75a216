"""The command sweep: many trainings from one file, over the devices of this machine or a Ray cluster."""

import argparse
import contextlib
import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from ...training.files import locked
from ..arguments import name, path, positive
from ..signals import stop_noted
from ..terminal import MINIATURE, UsageError, make_folder
from .jobs import Job, read_jobs
from .page import INDEX, Row, keep_result, kept_result, write_page
from .worker import DONE, FAILED

logger = logging.getLogger(__name__)

EVERY = 5.0
"""Seconds between two pages while runs come in."""


def add(commands) -> None:
    parser = commands.add_parser(
        "sweep",
        help="train many generators from one file, on every device there is, with a page of what came of them",
        description="Reads a YAML with `defaults:` and `runs:`, options of adapt by name, or a CSV with a header of them; "
        "trains each run in a folder of its own, and writes index.html with pictures, curves and scores. The same command "
        "goes on where it was stopped: what is done stays, what was begun is resumed.",
    )
    parser.add_argument("file", type=path, metavar="FILE", help="runs as .yaml or .csv")
    parser.add_argument("--output", required=True, type=path, metavar="DIR", help="folder for the runs and their page")
    parser.add_argument(
        "--devices", nargs="+", metavar="DEVICE", help="such as cuda:0 cuda:1 (default: every GPU, else the processor)"
    )
    parser.add_argument("--workers", type=positive, metavar="N", help="runs at a time on each device (default: 1)")
    parser.add_argument(
        "--address", metavar="ADDRESS", help='a Ray cluster in place of this machine: "auto", or ray://HOST:PORT'
    )
    parser.add_argument(
        "--clip",
        type=name,
        metavar="FOLDER",
        help=f'score each run by a CLIP in the layout of transformers, or "{MINIATURE}", to sort by',
    )
    parser.add_argument("--dry-run", action="store_true", help="check the file and say what would be trained")
    parser.set_defaults(command=sweep)
    parser = commands.add_parser(
        "sweep-file",
        help="write a file of runs from a ComfyUI graph",
        description="Reads a graph as ComfyUI exports it (Export (API)), or a picture that ComfyUI saved with it inside, and "
        "writes its settings as `defaults:` and its prompt as the first run: add more below it.",
    )
    parser.add_argument("graph", type=path, metavar="GRAPH", help="the graph: .json, or a .png with it")
    parser.add_argument("--output", required=True, type=path, metavar="FILE", help="the file of runs, .yaml")
    parser.add_argument(
        "--prompts", type=path, metavar="FILE", help="a text file with a prompt on each line: a run for each"
    )
    parser.add_argument(
        "--models",
        type=path,
        metavar="DIR",
        help="ComfyUI's folder of models, in which the graph's files are looked for",
    )
    parser.set_defaults(command=sweep_file)


def sweep(options: argparse.Namespace) -> int:
    jobs, root = read_jobs(options.file), options.output
    if options.dry_run:
        print(f"{len(jobs)} runs, each can begin:")
        for job in jobs:
            print(f"  {job.name}: {job.plan.prompt}")
        return 0
    make_folder(root)
    with locked(root / ".lock") as free:
        if not free:
            raise UsageError(f"Another sweep is working on {root}; wait until it ends, or stop it first.")
        return _train(options, jobs, root)


def _train(options: argparse.Namespace, jobs: Sequence[Job], root: Path) -> int:
    rows, open_jobs, refused = {}, [], []
    for job in jobs:
        result = {}
        try:
            if job.is_done(root):
                result = kept_result(job.folder(root)) | {"state": DONE}
            else:
                open_jobs.append(job)
        except UsageError as error:
            result = {"state": FAILED, "said": str(error)}
            refused.append(f"{job.name}: {error}")
        rows[job.name] = Row(job, result)
    kept = len(jobs) - len(open_jobs) - len(refused)
    print("\n".join([f"{len(jobs)} runs" + (f", {kept} of them there already" if kept else ""), *refused]))
    crew = _crew(options)
    title, last = f"{options.file.name}: {len(jobs)} runs", 0.0
    _page(root, rows, title)
    with stop_noted() as request, _stopping(request, crew):
        for number, (job, result) in enumerate(crew.train(open_jobs, root), start=1):
            keep_result(job.folder(root), result)
            _write_graph(job, root)
            rows[job.name] = Row(job, result)
            print(f"[{number}/{len(open_jobs)}] {job.name}: {result['state']}{_more(result)}", flush=True)
            if time.monotonic() - last > EVERY:
                _page(root, rows, title)
                last = time.monotonic()
    _page(root, rows, title)
    states = [row.state for row in rows.values()]
    done, failed = states.count(DONE), states.count(FAILED)
    print(
        f"{done} of {len(jobs)} runs are done"
        + (f", {failed} failed" if failed else "")
        + f": {(root / INDEX).resolve()}"
    )
    if request.signal is not None:
        print("Stopped. The same command goes on with the others.")
        return request.status
    return 0 if done == len(jobs) else 1


def _more(result: dict) -> str:
    seconds = f" in {result['seconds']:.0f} s" if result["state"] == DONE else ""
    return f"{seconds}. {result['said']}" if result.get("said") else seconds


def _crew(options: argparse.Namespace):
    if options.address:
        if options.devices or options.workers:
            raise UsageError("--devices and --workers are of this machine; a Ray cluster has its own.")
        from .on_ray import RayCrew

        return RayCrew(options.address, options.clip)
    from .crews import LocalCrew, devices_of

    return LocalCrew(devices_of(options.devices, options.workers), options.clip)


@contextlib.contextmanager
def _stopping(request, crew):
    """Tell the crew, from another thread, when an end was asked for."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.2):
            if request.signal is not None:
                crew.stop()
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _page(root: Path, rows: dict[str, Row], title: str) -> None:
    try:
        write_page(root, list(rows.values()), title)
    except OSError as error:  # the runs matter more
        logger.warning("The page could not be written (%s).", error.strerror or error)


def _write_graph(job: Job, root: Path) -> None:
    """Write the run as a graph for ComfyUI into its folder, as far as nodes can do what it does."""
    import json

    from ...training.files import write_atomically
    from .graphs import NoGraph, graph_of

    with contextlib.suppress(NoGraph, OSError):
        folder = job.folder(root)
        if folder.is_dir():
            write_atomically(folder / "graph.json", json.dumps(graph_of(job.plan), indent=1).encode())


def sweep_file(options: argparse.Namespace) -> int:
    from ...training.files import write_atomically
    from ..terminal import require_free
    from .graphs import options_of, read_graph
    from .jobs import yaml_of

    require_free(options.output.parent, [options.output.name])
    defaults = options_of(read_graph(options.graph), options.models)
    prompt = defaults.pop("prompt", "")
    prompts = [prompt]
    if options.prompts:
        lines = options.prompts.read_text("utf-8-sig").splitlines()
        prompts = [line.strip() for line in lines if line.strip()]
    write_atomically(options.output, yaml_of(defaults, [{"prompt": one} for one in prompts]).encode())
    print(f"Wrote {options.output.resolve()}: {len(prompts)} run{'s' * (len(prompts) != 1)}")
    return 0
