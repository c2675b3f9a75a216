"""A ComfyUI extension for the tests: tiny models with random weights of the model families that ComfyUI knows.

Real model classes, real VAE classes, small configurations; nothing of ComfyUI is replaced. Imports lazily: ComfyUI
reads this file at each start, and the tests read the table of families without ComfyUI."""


async def comfy_entrypoint():
    from .node import Zoo

    return Zoo()
