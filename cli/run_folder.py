"""A run of `adapt` and its folder, which knows from its first moment everything that is needed to go on with it."""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..sds import SavedTraining
from ..stylegan import SUFFIX
from ..training.files import locked, remove_leftovers, write_atomically
from .plan import Plan, in_options, read_plan
from .targets import SHOWN
from .terminal import shell_word

FORMAT, FIRST = "stylegan-fusion-run-2", "stylegan-fusion-run-1"
RESULTS = ("generator.safetensors", "best.safetensors", "before_after.png", "loss.png", "history.json", "run.json")
TRAINING = "training.safetensors"  # only until the run is finished
LARGEST = 1_000_000  # bytes of a run.json that is ours, by far


class RunError(Exception):
    """RunError is raised for a folder that holds no run to go on with; the message says what to do."""


@dataclass(frozen=True)
class RunFolder:
    """A RunFolder is the folder of a run."""

    path: Path

    @property
    def generator(self) -> Path:
        return self.path / "generator.safetensors"

    @property
    def best(self) -> Path:
        return self.path / "best.safetensors"

    @property
    def difference(self) -> Path:
        return self.path / f"generator{SUFFIX}"

    @property
    def history(self) -> Path:
        return self.path / "history.json"

    @property
    def targets(self) -> Path:
        return self.path / "targets"

    @property
    def shown_targets(self) -> Path:
        return self.path / SHOWN

    @property
    def notes(self) -> Path:
        return self.path / "run.json"

    @contextlib.contextmanager
    def held(self):
        """Keep other processes off the folder in the body. Raises RunError when one works on it already."""
        with locked(self.path / ".lock") as free:
            if not free:
                raise RunError(f"Another process is working on {self.path}; wait until it ends, or stop it first.")
            yield

    def saved(self, plan: Plan, digests: Mapping[str, str] | None = None) -> SavedTraining:
        """Return where the training is kept while it is not finished, to be gone on with by the same plan and the same
        files, of which there are `digests`."""
        identity = {
            "--model": plan.model,
            "--prompt": plan.prompt,
            "--negative-prompt": plan.negative_prompt,
            "--extra-prompt": plan.extra_prompts,
            "--guidance-scale": plan.guidance_scale,
            "--image-size": plan.image_size,
            "--half": plan.half,
            "--lpips-features": plan.lpips_features,
        }
        earlier = json.dumps([*identity.values()])
        domain = [plan.domain, plan.domain_scale, plan.domain_blend] if plan.domain else []
        newer = {  # what earlier ones had not
            "--lora": plan.loras,
            "--prediction": plan.prediction,
            "--domain": domain,
            "--vae": plan.vae,
            "--embedding": plan.embeddings,
            "--clip": plan.clip,
        }
        identity |= {option: given for option, given in newer.items() if given}
        return SavedTraining(
            self.path / TRAINING, plan.save_every, {**identity, **(digests or {})}, earlier, in_options
        )

    def write(self, plan: Plan, finished: bool = False) -> None:
        """Note the plan, and whether the run is finished. Raises OSError."""
        content = {"format": FORMAT, "finished": finished, "plan": plan.describe()}
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomically(self.notes, json.dumps(content, indent=2).encode())
        if finished:
            self.forget_training(plan)

    def forget_training(self, plan: Plan) -> None:
        """Remove the saved training of a finished run. It does no harm when it stays."""
        with contextlib.suppress(OSError):
            self.saved(plan).remove()

    def what_is_kept(self, plan: Plan) -> str:
        """Say where what was trained lies, and how to go on."""
        done = self.saved(plan).steps_done()
        kept = f"What was trained for {done} of {plan.settings.steps} steps is kept in {self.path}." if done else ""
        return f"{kept} Go on with: {self.resuming}".strip()

    @property
    def resuming(self) -> str:
        """Return the command that goes on with the run."""
        return f"stylegan-fusion adapt --resume {shell_word(self.path)}"

    def tidy(self) -> None:
        """Remove what a process that was killed has left half written."""
        for name in RESULTS:
            remove_leftovers(self.path / name)

    def read(self) -> tuple[Plan, bool]:
        """Return the plan, and whether the run is finished. Raises RunError when the folder
        holds none that can be read."""
        try:
            if not self.notes.is_file():
                raise RunError(f"{self.path} holds no run (no run.json); give the folder that was --output.")
            if self.notes.stat().st_size > LARGEST:
                raise ValueError("it is far too long")
            content = json.loads(self.notes.read_text(encoding="utf-8"))
            if content["format"] not in (FORMAT, FIRST):
                raise ValueError(f"its format is {content['format']!r}")
            plan = read_plan(content["plan"], first=content["format"] == FIRST)
            if not isinstance(content["finished"], bool):
                raise ValueError("its numbers make no sense")
            return plan, content["finished"]
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else error
            raise RunError(
                f"{self.notes} cannot be read ({reason}); begin the run anew with another --output. "
                f"{self.generator.name} and {self.best.name} there stay as they are."
            ) from error
