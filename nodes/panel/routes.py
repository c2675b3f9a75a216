"""What the page asks the server about panels. Their keys are random, and saved with the workflow."""

from aiohttp import web

from .panel import RUNNING, Panel
from .panels import Panels

PATH = "/stylegan_fusion/panels/{key}"
EARLIER = PATH + "/trainings/{version}"
MOMENT = "/moments/{step:\\d+}"


def register_routes(routes: web.RouteTableDef, panels: Panels) -> None:
    """Add to a server's routes, before it starts, those on which its page asks about these panels."""

    def panel_of(request) -> Panel | None:
        return panels.get(request.match_info["key"])

    def training_of(request):
        panel, version = panel_of(request), request.match_info.get("version")
        return panel and (panel.shown if version is None else panel.of(version))

    @routes.get(PATH)
    async def state(request):
        panel = panel_of(request)
        return web.json_response(panel.state if panel else {})

    @routes.get(EARLIER)
    async def earlier_state(request):
        shown = training_of(request)
        if not shown:
            raise web.HTTPNotFound
        return web.json_response(
            {
                **shown.state,
                "training": shown.moments.version,
                "pictures_alone": shown.moments.pictures_alone,
                "kept": shown.result,
            }
        )

    @routes.get(PATH + MOMENT)
    @routes.get(EARLIER + MOMENT)
    async def picture(request):
        shown = training_of(request)
        found = shown and shown.moments.picture(int(request.match_info["step"]))
        if not found:
            raise web.HTTPNotFound
        return web.Response(body=found, content_type="image/jpeg", headers={"Cache-Control": "max-age=86400"})

    @routes.post(PATH)
    async def ask(request):
        try:
            _do(panel_of(request), await request.json())
        except (ValueError, LookupError, TypeError) as error:
            return web.json_response({"error": str(error)}, status=400)
        return web.json_response({})


def _do(panel: Panel | None, asked: dict) -> None:
    """Do what is asked of a panel. Raises ValueError with a sentence where it cannot be done, LookupError, TypeError."""
    action, step = asked["action"], asked.get("step")
    if panel is None or not (step is None or type(step) is int):
        raise ValueError("This node has no training; run the graph first.")
    shown = panel.of(asked.get("training"))
    latest = shown is panel.shown
    if shown is None or latest == (asked.get("earlier") is True):
        raise ValueError("The panel shows another training by now; look again before you choose.")
    if action == "end" and latest:
        panel.ask_to_end(step)
    elif action == "choose" and step is not None:
        if not latest and panel.state.get("status") == RUNNING:
            raise ValueError("A training is running on this node; stop it first, or wait for its end.")
        panel.choose(step, shown, asked.get("whatever") is True)
    elif action == "go on" and latest:
        panel.go_on()
    elif action == "train more" and latest:
        panel.train_more()
    elif action == "forget":
        panel.forget(shown)
    else:
        raise ValueError(f"There is nothing that {action!r} does.")
