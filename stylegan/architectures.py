"""The kinds of generator, by the name in their configuration: an architecture is added here and in its own file."""

from collections.abc import Callable
from dataclasses import dataclass

from .alias_free import AliasFreeSynthesis
from .config import Config, EG3DConfig, GeneratorConfig, StyleGAN3Config
from .eg3d import TriPlaneSynthesis
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
        Architecture("EG3D", EG3DConfig, TriPlaneSynthesis),
    )
}
"""Architectures by name."""
