"""Lets oneDNN run out of memory for real, gives the memory back, and says what becomes of the next convolutions."""

import resource
from pathlib import Path

import torch
from comfyui_stylegan_fusion.training.out_of_memory import handle_out_of_memory
from torch import Tensor


def used() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def error_of(image: Tensor, weight: Tensor) -> str | None:
    try:
        torch.nn.functional.conv2d(image, weight, padding=1)
    except RuntimeError as error:
        return str(error)
    return None


def main() -> None:
    torch.set_num_threads(1)
    # Of as many shapes: oneDNN writes a program for each.
    pairs = [(torch.randn(4, width, 40, 40), torch.randn(width, width, 3, 3)) for width in range(16, 80)]
    error_of(*pairs.pop())
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    for turn in range(60):
        resource.setrlimit(resource.RLIMIT_AS, (used() + turn % 4 * 400_000, most))
        failed = error_of(*pairs.pop())
        if "primitive" in (failed or ""):
            break
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    print("for want of memory:", failed)
    print("with memory again:", error_of(*pairs.pop()))
    print("handled:", handle_out_of_memory(RuntimeError(failed)), error_of(*pairs.pop()))


if __name__ == "__main__":
    main()
