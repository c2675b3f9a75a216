"""A ComfyUI extension for the tests: a model and a VAE, loaded again in the precision that ComfyUI's arguments ask for.

The miniature's own node loads it in float32 always; ComfyUI's loaders of checkpoints decide as here."""


async def comfy_entrypoint():
    from .node import Precision

    return Precision()
