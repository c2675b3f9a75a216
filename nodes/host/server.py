"""The host's server: what it tells the page about a node that runs, and the routes on which the page asks."""

from collections.abc import Mapping
from typing import Any

from aiohttp import web
from comfy_api.v0_0_2 import ui

from .compatibility import incompatible

try:
    import comfy.utils
    from server import PromptServer

    ProgressBar = comfy.utils.ProgressBar
except (ImportError, AttributeError) as error:
    raise incompatible(error) from error


def routes() -> web.RouteTableDef:
    """Return the server's routes, which take further ones until it starts."""
    return PromptServer.instance.routes


def progress_bar(steps: int) -> ProgressBar:
    """Make a progress bar of the host for the node that is running."""
    return ProgressBar(steps)


def show_text(node_id: str, text: str) -> None:
    """Show a text on a node while it runs, in the page that runs it."""
    PromptServer.instance.send_progress_text(text, node_id, PromptServer.instance.client_id)


_told: set[str] = set()  # nodes with a hint on them


def hint(node_id: str, text: str) -> None:
    """Show on a node what should be known of what it was given; "" takes back what was shown."""
    if text or node_id in _told:
        show_text(node_id, text)
    (_told.add if text else _told.discard)(node_id)


def answer(node_id: str, text: str) -> ui.PreviewText:
    """Show on a node what came of it, and return that for programs: the page shows nothing of it by itself."""
    show_text(node_id, text)
    return ui.PreviewText(text)


class PanelPage:
    """PanelPage is the page of the host that shows panels (the protocol `Page` of panel/page.py)."""

    def show(self, event: str, state: Mapping[str, Any]) -> None:
        server = PromptServer.instance
        if server.client_id is not None:  # to the page that runs the graph; others ask
            server.send_sync(event, state, server.client_id)

    def prompt_id(self) -> str:
        return getattr(PromptServer.instance, "last_prompt_id", None) or ""
