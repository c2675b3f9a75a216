"""What kind of generator it is: every size that its weights depend on."""

from dataclasses import dataclass


@dataclass(frozen=True)
class GeneratorConfig:
    """Sizes of a StyleGAN2 generator. Raises ValueError naming the size that is out of range."""

    resolution: int  # side of the square pictures in pixels, a power of two from 32 to 1024
    z_dim: int = 512  # width of the input latent
    w_dim: int = 512  # width of the intermediate latent
    c_dim: int = 0  # width of the class label, 0 = unconditional
    mapping_layers: int = 8  # fully connected layers from z to w
    channel_base: int = 32768  # channels at a resolution: channel_base / resolution ...
    channel_max: int = 512  # ... but at most this many
    img_channels: int = 3
    conv_clamp: float | None = 256.0  # activations are clamped to this magnitude, for half precision

    def __post_init__(self):
        if self.resolution not in (32, 64, 128, 256, 512, 1024):
            raise ValueError(f"The resolution is {self.resolution}; it must be a power of two from 32 to 1024.")
        for name in ("z_dim", "w_dim", "mapping_layers", "channel_base", "channel_max", "img_channels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        if self.c_dim < 0:
            raise ValueError(f"c_dim is {self.c_dim}; it must be 0 (no class labels) or the width of the label.")
        if self.channel_base < self.resolution:
            raise ValueError(
                f"channel_base is {self.channel_base}, less than the resolution {self.resolution}: "
                "the last layers would have no channels."
            )
        if self.conv_clamp is not None and not self.conv_clamp > 0:
            raise ValueError(f"conv_clamp is {self.conv_clamp}; it must be above 0, or None for no clamp.")

    @property
    def resolutions(self) -> list[int]:
        """Sides of the synthesis blocks: 4, 8, ... resolution."""
        return [2**i for i in range(2, self.resolution.bit_length())]

    def channels(self, resolution: int) -> int:
        """Channels of the feature maps at a resolution."""
        return min(self.channel_base // resolution, self.channel_max)
