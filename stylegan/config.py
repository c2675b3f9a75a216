"""What kind of generator it is: every size that its weights depend on."""

from dataclasses import dataclass

_LARGEST = {
    "z_dim": 2**14,
    "w_dim": 2**14,
    "c_dim": 2**16,
    "mapping_layers": 64,
    "channel_base": 2**20,
    "channel_max": 2**14,
    "img_channels": 64,
}  # far above every generator known, so that a damaged file asks for nothing absurd


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
        if type(self.resolution) is not int or self.resolution not in (32, 64, 128, 256, 512, 1024):
            raise ValueError(f"The resolution is {self.resolution!r}; it must be a power of two from 32 to 1024.")
        for name, largest in _LARGEST.items():
            value, least = getattr(self, name), 0 if name == "c_dim" else 1
            if type(value) is not int or not least <= value <= largest:
                raise ValueError(f"{name} is {value!r}; it must be a whole number from {least} to {largest}.")
        if self.channel_base < self.resolution:
            raise ValueError(
                f"channel_base is {self.channel_base}, less than the resolution {self.resolution}: "
                "the last layers would have no channels."
            )
        clamp = self.conv_clamp
        if clamp is not None and not (isinstance(clamp, int | float) and clamp > 0):
            raise ValueError(f"conv_clamp is {clamp!r}; it must be above 0, or None for no clamp.")

    @property
    def resolutions(self) -> list[int]:
        """Sides of the synthesis blocks: 4, 8, ... resolution."""
        return [2**i for i in range(2, self.resolution.bit_length())]

    def channels(self, resolution: int) -> int:
        """Channels of the feature maps at a resolution."""
        return min(self.channel_base // resolution, self.channel_max)
