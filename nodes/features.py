"""The networks that compare images, for nodes with the input `features`."""

import logging
from weakref import WeakValueDictionary

from comfy_api.v0_0_2 import io

from ..metrics.lpips import Features
from ..miniature.perceptual import load_features
from ..stylegan.feature_files import linear_file
from .host import folders
from .inputs import complaint

logger = logging.getLogger(__name__)

BUNDLED = "miniature"

_in_memory: WeakValueDictionary[str, Features] = WeakValueDictionary()


def features_input(tooltip: str) -> io.Combo.Input:
    """Make the input `features`, from which `load_network` makes a network."""
    return io.Combo.Input("features", options=[BUNDLED, *folders.network_names()], default=BUNDLED, tooltip=tooltip)


class NodeWithFeatures(io.ComfyNode):
    """A NodeWithFeatures has the input `features`, and runs again when a file behind the choice is another one."""

    @classmethod
    def validate_inputs(cls, features):
        return complaint(network_state, features)

    @classmethod
    def fingerprint_inputs(cls, features, **_):
        return features and network_state(features)


def load_network(name: str) -> Features:
    """Load a network, in one copy for all nodes, as long as one of them holds it and its files stay as they are."""
    state = network_state(name)
    network = _in_memory.get(state)
    if network is None:
        network = _in_memory[state] = load_features(name if name == BUNDLED else folders.network_path(name))
        logger.info("StyleGAN Fusion read %s: %s", name, network.name)
    return network


def network_state(name: str) -> str:
    """Describe the files behind a choice, differently for each other one. Raises ValueError for unknown names."""
    if name == BUNDLED:
        return BUNDLED
    path = folders.network_path(name)
    return " ".join(folders.state_of_file(part) for part in (path, linear_file(path)) if part is not None)
