"""The colours of pictures that are grey, or have an alpha channel."""

from torch import Tensor


def rgb(images: Tensor) -> Tensor:
    """Return images [B, C, H, W] of 1 (grey), 3 (RGB) or 4 channels (RGBA) as [B, 3, H, W]: grey ones with three equal
    channels, and without alpha. The result is a view of the images."""
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images[:, :3]
