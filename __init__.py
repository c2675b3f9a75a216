"""StyleGAN Fusion: adapt a pretrained StyleGAN2 generator to a text prompt (arXiv 2212.04473).

This folder is at once the Python package and the ComfyUI custom node. Nothing is imported eagerly: ComfyUI calls
`comfy_entrypoint`, everyone else asks for one of the public names.
"""

import importlib

_PUBLIC = {
    "load_generator": ".miniature",
    "save_generator": ".stylegan",
    "train_generator": ".sds",
    "CheckpointError": ".stylegan",
}

WEB_DIRECTORY = "./web"
"""What ComfyUI serves to its page: our extension of it, and the help page of every node."""

__all__ = ["CheckpointError", "load_generator", "save_generator", "train_generator"]


def __getattr__(name):
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name], __name__), name)


def __dir__():
    return sorted({*globals(), *_PUBLIC})


async def comfy_entrypoint():
    """Called by ComfyUI: the extension with our nodes."""
    from .nodes.extension import StyleGANFusionExtension

    return StyleGANFusionExtension()
