"""The panels of the nodes that train, on the page of the host."""

from .host import folders
from .host.server import PanelPage
from .panel.panels import Panels

PANELS = Panels(PanelPage(), folders.moments_folder)
