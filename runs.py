"""A run of `adapt` and its folder, which knows from its first moment everything that is needed to go on with it."""

import contextlib
import dataclasses
import json
import types
import typing
from dataclasses import dataclass
from pathlib import Path

from .sds import SavedTraining, TrainSettings
from .training.files import locked, remove_leftovers, write_atomically

FORMAT = "stylegan-fusion-run-1"
RESULTS = ("generator.safetensors", "best.safetensors", "before_after.png", "loss.png", "run.json")
TRAINING = "training.safetensors"  # only until the run is finished
LARGEST = 1_000_000  # bytes of a run.json that is ours, by far


class RunError(Exception):
    """A folder that holds no run to go on with; the message says what to do."""


@dataclass(frozen=True)
class Plan:
    """Everything that a run is made of."""

    generator: str  # a file, or "miniature"
    model: str  # a folder, or "miniature"
    prompt: str
    negative_prompt: str
    extra_prompts: tuple[tuple[str, float], ...]  # texts and their scales
    guidance_scale: float
    image_size: int | None  # pixels; None: the model's own
    settings: TrainSettings
    directional: float  # weights of the regularizers, 0 for none
    reconstruction: float
    lpips: float
    lpips_features: str  # a file with VGG's weights, or "miniature"
    layers: str  # "all", "top3" or "1,2,3"
    selection_steps: int | None
    samples: int  # images before and after
    device: str | None  # None: the fastest there is
    half: bool  # whether the diffusion model is evaluated in half precision
    save_every: int  # steps


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run."""

    path: Path

    @property
    def generator(self) -> Path:
        return self.path / "generator.safetensors"

    @property
    def best(self) -> Path:
        return self.path / "best.safetensors"

    @property
    def notes(self) -> Path:
        return self.path / "run.json"

    @contextlib.contextmanager
    def held(self):
        """In the body no other process works on the folder. Raises RunError when one does already."""
        with locked(self.path / ".lock") as free:
            if not free:
                raise RunError(f"Another process is working on {self.path}; wait until it ends, or stop it first.")
            yield

    def saved(self, plan: Plan) -> SavedTraining:
        """Where the training is kept while it is not finished."""
        guidance = [plan.model, plan.prompt, plan.negative_prompt, plan.extra_prompts, plan.guidance_scale]
        identity = json.dumps([*guidance, plan.image_size, plan.half, plan.lpips_features])
        return SavedTraining(self.path / TRAINING, plan.save_every, identity)

    def write(self, plan: Plan, finished: bool = False) -> None:
        """Note the plan, and whether the run is finished. Raises OSError."""
        content = {"format": FORMAT, "finished": finished, "plan": dataclasses.asdict(plan)}
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomically(self.notes, json.dumps(content, indent=2).encode())
        if finished:
            self.forget_training(plan)

    def forget_training(self, plan: Plan) -> None:
        """Remove the saved training of a finished run. It does no harm when it stays."""
        with contextlib.suppress(OSError):
            self.saved(plan).remove()

    def tidy(self) -> None:
        """Remove what a process that was killed has left half written."""
        for name in RESULTS:
            remove_leftovers(self.path / name)

    def read(self) -> tuple[Plan, bool]:
        """The plan, and whether the run is finished. Raises RunError when the folder holds none that can be read."""
        try:
            if not self.notes.is_file():
                raise RunError(f"{self.path} holds no run (no run.json); give the folder that was --output.")
            if self.notes.stat().st_size > LARGEST:
                raise ValueError("it is far too long")
            content = json.loads(self.notes.read_text(encoding="utf-8"))
            if content["format"] != FORMAT:
                raise ValueError(f"its format is {content['format']!r}")
            plan = content["plan"]
            extra = tuple(tuple(pair) for pair in plan["extra_prompts"])
            settings = plan["settings"] | {"also_train": tuple(plan["settings"]["also_train"]), "crop": None}
            read = Plan(**plan | {"settings": _checked(TrainSettings(**settings)), "extra_prompts": extra})
            if not isinstance(content["finished"], bool) or read.save_every < 1 or read.samples < 2:
                raise ValueError("its numbers make no sense")
            return _checked(read), content["finished"]
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else error
            raise RunError(
                f"{self.notes} cannot be read ({reason}); begin the run anew with another --output. "
                f"{self.generator.name} and {self.best.name} there stay as they are."
            ) from error


def _checked(read):
    """A dataclass from JSON, each of whose fields is of its kind. Raises TypeError naming one that is not."""
    for name, kind in typing.get_type_hints(type(read)).items():
        if not _is(getattr(read, name), kind):
            raise TypeError(f"{name} is {str(getattr(read, name))[:40]!r}")
    return read


def _is(value: object, kind: object) -> bool:
    kinds = typing.get_args(kind)
    if isinstance(kind, types.UnionType):
        return any(_is(value, one) for one in kinds)
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, tuple) or kinds[-1] is Ellipsis:
            return isinstance(value, tuple) and all(_is(item, kinds[0]) for item in value)
        return len(value) == len(kinds) and all(map(_is, value, kinds))
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
