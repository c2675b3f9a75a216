"""The kinds of generator, by the name in their configuration: an architecture is added here and in its own file."""

from collections.abc import Callable
from dataclasses import dataclass

from .alias_free import AliasFreeSynthesis
from .config import Config, GeneratorConfig, StyleGAN3Config
from .stylegan2 import StyleGAN2Synthesis
from .synthesis import SynthesisNetwork


@dataclass(frozen=True)
class Architecture:
    """An Architecture holds what is known of one kind of generator."""

    title: str  # for people
    config: type[Config]  # its sizes; config.architecture is the name here
    synthesis: Callable[[Config], SynthesisNetwork]


ARCHITECTURES = {
    kind.config.architecture: kind
    for kind in (
        Architecture("StyleGAN2", GeneratorConfig, StyleGAN2Synthesis),
        Architecture("StyleGAN3", StyleGAN3Config, AliasFreeSynthesis),
    )
}
"""Architectures by name."""
