"""What the page asks the server about panels. Their keys are random, and saved with the workflow."""

from aiohttp import web

from .panels import Panels

PATH = "/stylegan_fusion/panels/{key}"


def register_routes(routes: web.RouteTableDef, panels: Panels) -> None:
    """Add to a server's routes, before it starts, those on which its page asks about these panels."""

    @routes.get(PATH)
    async def state(request):
        panel = panels.get(request.match_info["key"])
        return web.json_response(panel.state if panel else {})

    @routes.get(PATH + "/moments/{step:\\d+}")
    async def picture(request):
        panel = panels.get(request.match_info["key"])
        found = panel and panel.moments.picture(int(request.match_info["step"]))
        if not found:
            raise web.HTTPNotFound
        return web.Response(body=found, content_type="image/jpeg", headers={"Cache-Control": "max-age=86400"})

    @routes.post(PATH)
    async def ask(request):
        panel = panels.get(request.match_info["key"])
        try:
            asked = await request.json()
            action, step = asked["action"], asked.get("step")
            if panel is None or not (step is None or type(step) is int):
                raise ValueError("This node has no training; run the graph first.")
            if asked.get("training") != panel.moments.version:
                raise ValueError("The panel shows another training by now; look again before you choose.")
            if action == "end":
                panel.ask_to_end(step)
            elif action == "choose" and step is not None:
                panel.choose(step)
            elif action == "go on":
                panel.go_on()
            else:
                raise ValueError(f"There is nothing that {action!r} does.")
        except (ValueError, LookupError, TypeError) as error:
            return web.json_response({"error": str(error)}, status=400)
        return web.json_response({})
