"""The node that is running, for what has to be tested without a host: the protocol of panel/running_node.py."""

from . import device, server


class HostNode:
    """HostNode is a node that the host is running, with what the host does for it."""

    raise_if_interrupted = staticmethod(device.raise_if_interrupted)
    is_interruption = staticmethod(device.is_interruption)
    retry_without_models = staticmethod(device.retry_without_models)
    unload_models = staticmethod(device.unload_models)
    progress_bar = staticmethod(server.progress_bar)

    def __init__(self, node_id: str):
        self.node_id = node_id

    def show_text(self, text: str) -> None:
        server.show_text(self.node_id, text)
