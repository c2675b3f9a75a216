"""What is said when the host's internals are not where this version expects them."""


def incompatible(error: Exception) -> ImportError:
    """Return the error to raise from `error`, naming the host's version."""
    try:
        from comfyui_version import __version__ as version
    except ImportError:
        version = "of unknown version"
    return ImportError(
        f"StyleGAN Fusion does not fit this ComfyUI ({version}): {error}. Versions from 0.3.64 to 0.33 are known to "
        "work; update StyleGAN Fusion, or ComfyUI if it is older."
    )
