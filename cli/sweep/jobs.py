"""What a sweep asks for: a file of options of `adapt`, run by run."""

import contextlib
import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..plan import Plan
from ..planning import plan_for
from ..run_folder import RunError, RunFolder
from ..terminal import UsageError

LONGEST = 10_000_000  # bytes of a file that people write
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,99}")
FORBIDDEN = ("output", "resume")
"""Options that the sweep gives itself."""


@dataclass(frozen=True)
class Job:
    """A Job is one run of a sweep."""

    name: str  # of its folder in the sweep's
    arguments: tuple[str, ...]  # of the command line, without --output
    plan: Plan

    def folder(self, root: Path) -> Path:
        return root / self.name

    def command(self, root: Path, device: str | None) -> list[str]:
        """Return the command that trains it, or goes on with what was begun. Raises UsageError where its folder holds
        something else."""
        place, folder = self.folder(root), RunFolder(self.folder(root))
        if folder.notes.exists():
            self._require_own(folder)
            return ["adapt", "--resume", str(place)]
        of_device = ["--device", device] if device and "--device" not in self.arguments else []
        return [*self.arguments, *of_device, "--output", str(place)]

    def is_done(self, root: Path) -> bool:
        """Tell whether it is finished already. Raises UsageError where its folder holds something else."""
        folder = RunFolder(self.folder(root))
        return folder.notes.exists() and self._require_own(folder)

    def _require_own(self, folder: RunFolder) -> bool:
        try:
            plan, finished = folder.read()
        except RunError as error:
            raise UsageError(str(error)) from None
        # Where it runs changes nothing of what comes of it.
        if {**plan.describe(), "device": None} != {**self.plan.describe(), "device": None}:
            raise UsageError(
                f"{folder.path} holds a run with other settings; give the run another name, or the sweep another --output."
            )
        return finished


def read_jobs(path: Path) -> list[Job]:
    """Read the runs of a file: YAML with `defaults` and `runs`, or CSV with a header of options. Raises UsageError for the
    first run that could not begin."""
    try:
        if path.stat().st_size > LONGEST:
            raise UsageError(f"{path} is far too long for a file of runs.")
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} could not be read ({getattr(error, 'strerror', None) or error}).") from None
    defaults, runs = _of_csv(text) if path.suffix.lower() == ".csv" else _of_yaml(text, path)
    if not runs:
        raise UsageError(f"{path} has no runs; write at least one below `runs:`.")
    jobs, taken = [], set()
    for number, run in enumerate(runs, start=1):
        asked = {**defaults, **run}
        name = str(asked.pop("name", "") or "") or _named(number, len(runs), asked.get("prompt"))
        if not NAME.fullmatch(name):
            raise UsageError(
                f"Run {number} is named {name[:40]!r}; names are letters, digits, spaces, dots and hyphens."
            )
        if name.casefold() in taken:
            raise UsageError(f"Two runs are named {name!r}; give each a name of its own.")
        taken.add(name.casefold())
        jobs.append(_job(name, arguments_of(asked), number))
    return jobs


def arguments_of(asked: Mapping[str, Any]) -> list[str]:
    """Return options by name as arguments of `adapt`: true and false are switches, lists several values, empty is not
    given. Raises UsageError."""
    arguments = ["adapt"]
    for key, value in asked.items():
        option = str(key).strip().lstrip("-").replace("_", "-")
        if option in FORBIDDEN:
            raise UsageError(f"{key} is what the sweep gives each run itself; leave it out.")
        if value is None or value == "":
            continue
        if isinstance(value, bool):
            arguments.append(f"--{option}" if value else f"--no-{option}")
        elif isinstance(value, list) and value and all(isinstance(one, list) for one in value):
            for one in value:  # an option that is repeated
                arguments += [f"--{option}", *map(str, one)]
        elif isinstance(value, list):
            arguments += [f"--{option}", *map(str, value)]
        else:
            arguments.append(f"--{option}={value}")
    return arguments


def _job(name: str, arguments: list[str], number: int) -> Job:
    """Check the arguments as the command itself does. Raises UsageError that names the run."""
    from ...miniature.settings import MINIATURE_SETTINGS
    from ..options import parse

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            options = parse([*arguments, "--output", name])
        options.miniature_settings = MINIATURE_SETTINGS
        return Job(name, tuple(arguments), plan_for(options))
    except SystemExit:
        reason = said.getvalue().strip().splitlines()[-1].partition("error: ")[2] or "its options make no sense"
    except (ValueError, UsageError) as error:
        reason = str(error)
    raise UsageError(f"Run {number} ({name}): {reason}")


def _named(number: int, count: int, prompt: object) -> str:
    words = re.sub(r"[^a-z0-9]+", "-", str(prompt or "run").lower()).strip("-")[:60].strip("-")
    return f"{number:0{max(2, len(str(count)))}}-{words or 'run'}"


def _of_csv(text: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    rows = csv.DictReader(io.StringIO(text))
    switches = {"true": True, "false": False}
    found = []
    for number, row in enumerate(rows, start=1):
        if None in row or None in row.values():
            raise UsageError(
                f"Row {number} has another number of columns than the header; put texts with commas in quotes."
            )
        found.append({key: switches.get(value.strip().lower(), value.strip()) for key, value in row.items()})
    return {}, found


def _of_yaml(text: str, path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    import yaml

    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"{path} is no YAML ({' '.join(str(error).split())[:200]}).") from None
    match content:
        case {"runs": list(runs), **rest} if rest.keys() <= {"defaults"}:
            defaults = rest.get("defaults") or {}
        case _:
            raise UsageError(
                f"{path} needs `runs:` with a list, and may have `defaults:`; nothing else stands at its top."
            )
    if not isinstance(defaults, Mapping) or not all(isinstance(run, Mapping) for run in runs):
        raise UsageError(f"{path}: defaults and each run are options with values, such as `prompt: a fox`.")
    return dict(defaults), [dict(run) for run in runs]


def yaml_of(defaults: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> str:
    """Write a file of runs."""
    import yaml

    plain = json.loads(json.dumps({"defaults": defaults, "runs": list(runs)}))
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=120)
