"""Our files for the host's page, where the host itself cannot serve them.

The host serves web/ and example_workflows/ at addresses that end in this folder's name. Its server (aiohttp) compares
that name quoted with the address unquoted, so a name with a space or a bracket, as a copy of a folder has, is never
found. And the page asks for help pages with the name up to its first dot, where a release's folder has its version.
"""

import re
from pathlib import Path
from urllib.parse import quote

from aiohttp import web

FOLDER = Path(__file__).parents[1]  # not resolved: its name in custom_nodes counts, also where it is a link
SERVED = {"/extensions": "web", "/workflow_templates": "example_workflows"}


def serve_web_files(routes: web.RouteTableDef) -> None:
    """Add our own way to our files to the routes of the host's server where the folder's name needs one; called once,
    before it starts."""
    names = {FOLDER.name, re.split("[.@]", FOLDER.name)[0]} - {""}
    if quote(FOLDER.name) == FOLDER.name:
        names.remove(FOLDER.name)
    for prefix, folder in SERVED.items() if names else ():
        # A group takes its pattern as it is, where plain text would be quoted again.
        address = f"{prefix}/{{name:{'|'.join(map(re.escape, sorted(names)))}}}/{{path:.+}}"
        routes.get(address)(_files_of((FOLDER / folder).resolve()))


def _files_of(root: Path):
    async def file(request: web.Request) -> web.FileResponse:
        path = (root / request.match_info["path"]).resolve()
        if not path.is_relative_to(root) or not path.is_file():
            raise web.HTTPNotFound
        return web.FileResponse(path)

    return file
