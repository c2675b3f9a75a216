"""Load files that are damaged or mean harm, one after the other, and report what came of each as JSON.

Run as a process of its own, so that its memory is its own and a crash is seen:
`fuzz.py mutate FILE COUNT SEED` loads damaged copies of a good file, `fuzz.py each GOOD FILE...` the files as they are."""

import json
import random
import sys
import time
from collections import Counter
from pathlib import Path

import torch
from comfyui_stylegan_fusion.stylegan import CheckpointError, load_checkpoint

# Audit events of what loading a file has no business to do.
FORBIDDEN = (
    "os.",
    "subprocess.",
    "socket.",
    "shutil.",
    "ctypes.",
    "pickle.find_class",
    "code.",
    "urllib.",
    "webbrowser.",
)
HARMLESS = ("os.fspath", "os.listdir", "os.scandir")


class Watch:
    """Notes what happens in this process while it is on."""

    def __init__(self):
        self.on, self.seen = False, []
        sys.addaudithook(self.note)

    def note(self, event, args):
        if not self.on:
            return
        mode = args[1] if event == "open" else None
        writes = isinstance(mode, str) and set(mode) & set("wax+")
        # torch and the standard library import parts of themselves when they are first needed.
        foreign = event == "import" and args[0].split(".")[0] not in {
            *sys.stdlib_module_names,
            "torch",
            "numpy",
            __package__,
        }
        if writes or foreign or (event.startswith(FORBIDDEN) and event not in HARMLESS):
            self.seen.append(f"{event} {str(args)[:100]}")


def mutated(data: bytes, rng: random.Random) -> bytes:
    """One of the ways in which files go bad, or are made bad."""
    data = bytearray(data)
    # The structure is at the start or at the end, the weights in between are plain numbers.
    near = [
        rng.randrange(len(data)),
        rng.randrange(min(len(data), 4096)),
        len(data) - 1 - rng.randrange(min(len(data), 4096)),
    ]
    kind = rng.randrange(9)
    if kind == 0:  # flipped bits
        for _ in range(rng.choice((1, 1, 1, 8, 64))):
            data[rng.choice(near) if rng.random() < 0.8 else rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == 1:  # other bytes
        for _ in range(rng.choice((1, 1, 2, 16))):
            data[rng.choice(near)] = rng.randrange(256)
    elif kind == 2:  # cut off
        del data[rng.choice(near) :]
    elif kind == 3:  # a hole
        start = rng.choice(near)
        del data[start : start + rng.choice((1, 4, 100, 5000))]
    elif kind == 4:  # something put in
        start = rng.choice(near)
        data[start:start] = rng.randbytes(rng.choice((1, 4, 100, 5000)))
    elif kind == 5:  # a piece twice
        start, length = rng.choice(near), rng.choice((1, 8, 200, 5000))
        data[start:start] = data[start : start + length]
    elif kind == 6:  # zeros
        start, length = rng.choice(near), rng.choice((1, 8, 200, 5000))
        data[start : start + length] = bytes(len(data[start : start + length]))
    elif kind == 7:  # a large number where a length or an index may be
        start = rng.choice(near)
        data[start : start + 4] = rng.choice(
            (b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff", b"\x00\x00\x00\x10", b"\xff\xff\xff\x0f")
        )
    else:  # two pieces exchanged
        a, b, length = rng.choice(near), rng.randrange(len(data)), rng.choice((4, 64, 1000))
        piece = data[a : a + length]
        data[a : a + length], data[b : b + length] = data[b : b + length], piece
    return bytes(data)


def memory_mb(which: str) -> float:
    """Of this process in megabytes, now ("VmRSS") or at most ("VmHWM"), mapped files included."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{which}:")) / 1024


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


class Loader:
    """Loads files and judges what comes of it."""

    def __init__(self, good: str):
        load_checkpoint(good)  # what torch loads once, and the memory of a whole file, are not the next files' doing
        self.watch = Watch()

    def load(self, path: Path) -> tuple[str, str | None]:
        """ "loaded" or "refused", and what is wrong with that."""
        self.watch.seen.clear()
        self.watch.on = True
        try:
            generator = load_checkpoint(path).generator
        except CheckpointError as error:
            self.watch.on = False
            clear = str(error).startswith(str(path)) and str(error).endswith(".") and len(str(error)) < 600
            outcome, fault = "refused", None if clear else f"an unclear message: {str(error)[:300]}"
        except Exception as error:
            self.watch.on = False
            outcome, fault = "failed", f"{type(error).__name__}: {str(error)[:200]}"
        else:
            self.watch.on = False
            finite = all(torch.isfinite(value).all() for value in generator.state_dict().values())
            outcome, fault = "loaded", None if finite else "weights that are not finite"
        return outcome, f"did {self.watch.seen[:5]}" if self.watch.seen else fault


def mutate(good: str, count: str, seed: str) -> None:
    source, target = Path(good).read_bytes(), Path(good).with_name("mutated")
    loader, outcomes, faults, slowest = Loader(good), Counter(), [], 0.0
    forget_peak()
    start = memory_mb("VmRSS")
    for number in range(int(count)):
        target.write_bytes(mutated(source, random.Random(f"{seed} {number}")))
        begin = time.monotonic()
        outcome, fault = loader.load(target)
        slowest = max(slowest, time.monotonic() - begin)
        outcomes[outcome] += 1
        if fault:
            faults.append((number, fault))
    grown = memory_mb("VmHWM") - start
    print(json.dumps({"outcomes": outcomes, "faults": faults[:20], "grown_mb": grown, "slowest_s": slowest}))


def each(good: str, *paths: str) -> None:
    loader = Loader(good)
    for path in map(Path, paths):
        forget_peak()
        before, begin = memory_mb("VmRSS"), time.monotonic()
        outcome, fault = loader.load(path)
        size = path.stat().st_size / 1e6
        report = {
            "name": path.name,
            "outcome": outcome,
            "fault": fault,
            "size_mb": size,
            "grown_mb": memory_mb("VmHWM") - before,
        }
        print(json.dumps({**report, "seconds": time.monotonic() - begin}), flush=True)


if __name__ == "__main__":
    {"mutate": mutate, "each": each}[sys.argv[1]](*sys.argv[2:])
