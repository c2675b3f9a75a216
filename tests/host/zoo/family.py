"""What the zoo knows of a family of models."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Family:
    """One family. Sizes are as small as the class allows; widths of text are the real ones where they are cheap."""

    config: str  # class in comfy.supported_models
    settings: dict
    width: int  # of a text token
    vae: str = "kl"
    tokens: int = 8
    image_model: str = ""
    extras: dict = field(default_factory=dict)  # entries of the conditioning; a tuple is the shape of a random tensor
    masks: dict = field(default_factory=dict)  # entries that are attention masks: (length, tokens that are no padding)
    tokens_ids: dict = field(default_factory=dict)  # entries that are token numbers: lengths
    marks: dict = field(default_factory=dict)  # keys of the state dict that tell variants apart
    overwrite: dict = field(default_factory=dict)  # settings that the config class would write itself
    parameters: str = ""  # "module:dataclass" that reads the settings
    adapter: str = ""  # "module:class" of a text adapter of fixed size
    image_size: int = 64
    refused: str = ""  # part of the sentence, for what cannot be a critic
