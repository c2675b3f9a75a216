"""Where the latents of a command come from: a seed and a count, a list of seeds, or files."""

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .arguments import add_class, add_psi, at_least, path, seeds
from .terminal import UsageError

PIECE = 32  # latents that the mapping takes together


def add_source(
    parser: argparse.ArgumentParser, count: int, psi: float, of: str = "", least: int = 1, cutoff: bool = True
) -> None:
    """Add the options of a source; `of` begins their names ("row-"), and `count` is usual."""
    what = f"for the {of.rstrip('-')}s: " if of else ""
    usual = 1 if of == "column-" else 0
    parser.add_argument(f"--{of}seed", type=int, help=f"{what}the same seed gives the same latents (default: {usual})")
    parser.add_argument(
        f"--{of}count", type=at_least(least), metavar="N", help=f"{what}number of latents (default: {count})"
    )
    parser.add_argument(
        f"--{of}seeds",
        type=seeds,
        metavar="LIST",
        help=f"{what}one latent of each of these seeds, 1-64,100 for example, in place of --{of}seed and --{of}count",
    )
    parser.add_argument(
        f"--{of}latents",
        type=path,
        nargs="+",
        metavar="FILE",
        help=f"{what}latents that project, edit or mix wrote (or a .npy or .npz of another program)",
    )
    parser.add_argument(
        f"--{of}pick", metavar="LIST", help=f"{what}which of --{of}latents to take, 0,3,5-7 for example (default: all)"
    )
    parser.set_defaults(**{f"{of}usual".replace("-", "_"): (usual, count)})
    if not of:
        add_psi(parser, psi, cutoff, "; of --latents 1")
        parser.set_defaults(truncation_psi=None, usual_psi=psi)
        add_class(parser)


@dataclass(frozen=True)
class Sampling:
    """Sampling says how codes are made of latents."""

    truncation_psi: float
    truncation_cutoff: int | None
    class_index: int | None

    @classmethod
    def of(cls, options: argparse.Namespace) -> "Sampling":
        """Read it from options. Raises UsageError."""
        psi = options.usual_psi if options.truncation_psi is None else options.truncation_psi
        if not math.isfinite(psi):
            raise UsageError(f"--truncation-psi is {psi}; give a number, 0.7 for example.")
        return cls(psi, getattr(options, "truncation_cutoff", None), options.class_index)

    @property
    def notes(self) -> dict[str, object]:
        """Return what a picture says of it, by option."""
        return {
            "--truncation-psi": self.truncation_psi,
            "--truncation-cutoff": self.truncation_cutoff,
            "--class-index": self.class_index,
        }


@dataclass(frozen=True)
class Seed:
    """A Seed gives `count` latents of one seed."""

    seed: int
    count: int
    sampling: Sampling

    def __post_init__(self):
        from ..stylegan import check_seed

        check_seed(self.seed)  # before anything is written

    @property
    def description(self) -> str:
        return f"{self.count} of seed {self.seed}"

    def name(self, index: int) -> str:
        """Return the name of a picture's file, without its ending."""
        return f"{index:05}"

    def notes(self, index: int) -> dict[str, object]:
        """Return what tells a picture from others, by option."""
        return {"--seed": self.seed, "number": index, **self.sampling.notes}

    def z(self, generator):
        """Draw all latents [N, z_dim]."""
        from ..stylegan import sample_z

        return sample_z(generator.z_dim, self.count, self.seed)

    def pieces(self, generator, wanted: Callable[[int], bool] = lambda index: True) -> Iterator[tuple]:
        """Give the numbers, codes [n, num_ws, w_dim] and noise seeds of wanted pictures, a few at a time, in order."""
        from ..stylegan import LatentStream, noise_seeds, sample_codes

        how, stream = self.sampling, LatentStream(generator.z_dim, self.seed)
        for start in range(0, self.count, PIECE):
            z = stream.take(min(PIECE, self.count - start))
            rows = [row for row in range(len(z)) if wanted(start + row)]
            if rows:
                ws = sample_codes(generator, z, how.truncation_psi, how.truncation_cutoff, how.class_index, start)
                noise = noise_seeds(self.seed, start, len(z))
                yield [start + row for row in rows], ws[rows], [noise[row] for row in rows]


@dataclass(frozen=True)
class Seeds:
    """Seeds give the first latent of each of a list of seeds: what is drawn of one depends on no other."""

    seeds: Sequence[int]
    sampling: Sampling

    @property
    def count(self) -> int:
        return len(self.seeds)

    @property
    def description(self) -> str:
        return f"seeds {', '.join(map(str, self.seeds[:8]))}{' ...' if self.count > 8 else ''}"

    def name(self, index: int) -> str:
        return f"seed{self.seeds[index]:05}"

    def notes(self, index: int) -> dict[str, object]:
        return {"--seed": self.seeds[index], "number": 0, **self.sampling.notes}

    def z(self, generator):
        import torch

        from ..stylegan import sample_z

        return torch.cat([sample_z(generator.z_dim, 1, seed) for seed in self.seeds])

    def pieces(self, generator, wanted: Callable[[int], bool] = lambda index: True) -> Iterator[tuple]:
        import torch

        from ..stylegan import noise_seeds, sample_codes, sample_z

        how = self.sampling
        for start in range(0, self.count, PIECE):
            rows = [row for row in range(start, min(start + PIECE, self.count)) if wanted(row)]
            if not rows:
                continue
            ws = []
            for seed in (self.seeds[row] for row in rows):
                z, first = sample_z(generator.z_dim, 1, seed), seed % max(1, generator.c_dim)
                ws.append(sample_codes(generator, z, how.truncation_psi, how.truncation_cutoff, how.class_index, first))
            yield rows, torch.cat(ws), [noise_seeds(self.seeds[row], 0, 1)[0] for row in rows]


@dataclass(frozen=True)
class Files:
    """Files give codes that were kept, as they are or truncated."""

    codes: Any  # stylegan.code_files.Codes
    sampling: Sampling | None = None  # None: as they are

    @property
    def count(self) -> int:
        return len(self.codes.ws)

    @property
    def description(self) -> str:
        return self.codes.description

    def name(self, index: int) -> str:
        return f"{index:05}"

    def notes(self, index: int) -> dict[str, object]:
        from ..training.digests import tensors_digest

        truncation = self.sampling.notes if self.sampling else {}
        return {"--latents": tensors_digest([("code", self.codes.ws[index])])[:16], "number": index, **truncation}

    def z(self, generator) -> None:
        """Return None: they may have none."""

    def pieces(self, generator, wanted: Callable[[int], bool] = lambda index: True) -> Iterator[tuple]:
        from ..stylegan import noise_seeds, require_fitting

        require_fitting(generator, self.codes.ws)
        for start in range(0, self.count, PIECE):
            rows = [row for row in range(start, min(start + PIECE, self.count)) if wanted(row)]
            if rows:
                yield rows, self._truncated(generator, rows), [noise_seeds(0, row, 1)[0] for row in rows]

    def _truncated(self, generator, rows: list[int]):
        ws, how = self.codes.ws[rows], self.sampling
        if how is None:
            return ws
        device = next(generator.parameters()).device
        return generator.mapping.truncated(ws.to(device), how.truncation_psi, how.truncation_cutoff).cpu()


Source = Seed | Seeds | Files


def source_of(options: argparse.Namespace, of: str = "") -> Source:
    """Make the source that was asked for. Raises UsageError, ValueError, CheckpointError."""
    values = {
        name: getattr(options, f"{of}{name}".replace("-", "_"))
        for name in ("seed", "count", "seeds", "latents", "pick", "usual")
    }
    given = [name for name in ("seed", "count") if values[name] is not None]
    for name in ("seeds", "latents"):
        others = [other for other in (*given, "seeds") if other != name and values[other] is not None]
        if values[name] is not None and others:
            raise UsageError(
                f"--{of}{name} and --{of}{others[0]} both say which latents to take; leave out one of them."
            )
    if values["pick"] is not None and values["latents"] is None:
        raise UsageError(f"--{of}pick chooses from --{of}latents; give these, too.")
    if values["latents"] is not None:
        asked = not of and options.truncation_psi is not None
        return Files(_codes(values["latents"], values["pick"], of), Sampling.of(options) if asked else None)
    sampling = Sampling.of(options)
    if values["seeds"] is not None:
        return Seeds(values["seeds"], sampling)
    usual = zip((values["seed"], values["count"]), values["usual"], strict=True)
    return Seed(*(default if value is None else value for value, default in usual), sampling)


def all_codes(source: Source, generator):
    """Return all codes of a source, with where they come from."""
    import torch

    from ..stylegan import mapping_digest
    from ..stylegan.code_files import Codes

    pieces = [ws for _, ws, _ in source.pieces(generator)]
    mapping = source.codes.mapping if isinstance(source, Files) else mapping_digest(generator)
    return Codes(torch.cat(pieces), mapping, source.description)


def tell_of_another_mapping(generator, codes) -> str:
    """Return a sentence where codes come from a generator of another kind than the one that draws them, else ""."""
    from ..stylegan import mapping_digest

    if codes.mapping in ("", mapping_digest(generator)):
        return ""
    return "These latents belong to a generator with another mapping: what they show may not carry over."


def _codes(files, pick: str | None, of: str):
    from ..stylegan import parse_codes
    from ..stylegan.code_files import Codes, joined, load_codes

    codes = joined([load_codes(file) for file in files])
    if pick is None:
        return codes
    try:
        chosen = parse_codes(pick)
    except ValueError:
        raise UsageError(f"--{of}pick {pick!r} is no list; write for example 0,3,5-7.") from None
    if chosen[-1] >= len(codes.ws):
        raise UsageError(f"There is no latent {chosen[-1]}: there are {len(codes.ws)}, numbered from 0.")
    return Codes(codes.ws[list(chosen)], codes.mapping, f"numbers {pick} of {codes.description}")
