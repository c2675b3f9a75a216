"""A real ComfyUI process for the tests: find it, start it on a free port with its own folders, talk to its API."""

from __future__ import annotations

import copy
import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import websocket

# Not resolved: a project linked into custom_nodes must find the ComfyUI that it is linked into.
PROJECT = Path(__file__).absolute().parents[2]

FRONTEND = os.environ.get("COMFYUI_FRONTEND_ROOT")
"""The folder "static" of a comfyui_frontend_package that is to serve the page in place of ComfyUI's own."""

# A space and a dot, as the folder of a downloaded archive may have them.
EXTENSION_FOLDER = "StyleGAN Fusion 1.0"

START_SECONDS = 180

# A fresh user is greeted by a template browser in front of the graph.
PAGE_SETTINGS = {
    "Comfy.TutorialCompleted": True,
    "Comfy.Graph.CanvasInfo": False,
    "Comfy.Minimap.Visible": False,
    "Comfy.Workflow.Persist": False,
}

# Binary websocket messages: event type, then for a preview a 4-byte image type, then the image; for a text
# the length of the node's id, the id, then the text.
PREVIEW_IMAGE = 1
TEXT = 3


class HostNotFound(Exception):
    """No ComfyUI, or no Python for it, on this machine."""


class PromptRejected(Exception):
    """ComfyUI did not accept a graph; `errors` is its answer."""

    def __init__(self, errors: dict):
        super().__init__(f"ComfyUI rejected the graph: {json.dumps(errors)}")
        self.errors = errors


def find_comfyui() -> tuple[Path, Path]:
    """ComfyUI's folder and its Python.

    The folder: $COMFYUI_PATH, else the one whose custom_nodes holds this project, else ~/ComfyUI.
    The Python: $COMFYUI_PYTHON, else that of the virtual environment venv or .venv in the folder.
    """
    named = os.environ.get("COMFYUI_PATH")
    candidates = [Path(named)] if named else [PROJECT.parents[1], Path.home() / "ComfyUI"]
    folder = next((c for c in candidates if (c / "main.py").is_file() and (c / "comfy").is_dir()), None)
    if folder is None:
        places = " or ".join(map(str, candidates))
        raise HostNotFound(f"no ComfyUI in {places}: set COMFYUI_PATH to a ComfyUI folder to run these tests")
    named = os.environ.get("COMFYUI_PYTHON")
    binaries = ("bin/python", "Scripts/python.exe")
    pythons = [Path(named)] if named else [folder / v / b for v in ("venv", ".venv") for b in binaries]
    python = next((p for p in pythons if p.is_file()), None)
    if python is None:
        raise HostNotFound(f"no Python for {folder}: set COMFYUI_PYTHON to the interpreter that runs this ComfyUI")
    return folder.absolute(), python.absolute()


def own_environment() -> dict[str, str]:
    """The environment with nothing of ours that could leak into ComfyUI's Python."""
    return {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}


def run_script(folder: Path, python: Path, name: str, *arguments: str | Path, timeout: float = 600) -> None:
    """Run a script of this folder by ComfyUI's Python in ComfyUI's folder, with the project's folder as its first
    argument."""
    command = [python, Path(__file__).parent / name, PROJECT, *arguments]
    done = subprocess.run(
        list(map(str, command)), cwd=folder, env=own_environment(), capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode == 0, done.stderr[-4000:]


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@dataclass
class Run:
    """What ComfyUI said about one prompt, in order."""

    prompt_id: str
    events: list[tuple[str, dict]] = field(default_factory=list)
    previews: list[tuple[str, bytes]] = field(default_factory=list)  # each with the node that ran
    shown: list[tuple[str, str]] = field(default_factory=list)  # texts on nodes, each with the node that ran

    @property
    def texts(self) -> list[str]:
        return [text for _, text in self.shown]

    def last_text(self, node: str) -> str:
        """What a node shows at the end."""
        return [text for name, text in self.shown if name == node][-1]

    def of(self, kind: str) -> list[dict]:
        return [data for k, data in self.events if k == kind]

    @property
    def progress(self) -> list[tuple[int, int]]:
        return [(d["value"], d["max"]) for d in self.of("progress")]

    @property
    def outputs(self) -> dict[str, dict]:
        """Node id to what the node showed, e.g. {"images": [{"filename": ...}]}."""
        return {d["node"]: d["output"] for d in self.of("executed") if d["output"]}

    @property
    def error(self) -> dict | None:
        return next(iter(self.of("execution_error")), None)

    @property
    def interrupted(self) -> bool:
        return bool(self.of("execution_interrupted"))

    @property
    def succeeded(self) -> bool:
        return bool(self.of("execution_success"))


class Host:
    """One ComfyUI server, on the CPU unless told, with the project and `extensions` (folders) and nothing of the user's.

    base holds models, custom_nodes, input, output, temp and user; it may be that of another server. `arguments` are
    further ones of ComfyUI's command line. `folder_name` is what the project's folder is called in custom_nodes; None
    leaves it out. A context manager: starts and stops the process.
    """

    def __init__(
        self,
        folder: Path,
        python: Path,
        base: Path,
        extensions: tuple[Path, ...] = (),
        arguments: tuple[str, ...] = (),
        cpu: bool = True,
        folder_name: str | None = EXTENSION_FOLDER,
    ):
        self.folder, self.python, self.base = folder, python, base
        self.extensions, self.arguments = {e.name: e for e in extensions}, (*["--cpu"] * cpu, *arguments)
        if folder_name is not None:
            self.extensions[folder_name] = PROJECT
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_path = base / f"comfyui-{self.port}.log"
        self.headers: dict[str, str] = {}  # of each request
        self._process: subprocess.Popen | None = None
        self._sockets: dict[str, websocket.WebSocket] = {}

    models = property(lambda self: self.base / "models")
    output = property(lambda self: self.base / "output")
    temp = property(lambda self: self.base / "temp")
    process_id = property(lambda self: self._process.pid)

    def __enter__(self) -> Host:
        for name in ("models", "custom_nodes", "input", "output", "temp", "user/default"):
            (self.base / name).mkdir(parents=True, exist_ok=True)
        (self.base / "user/default/comfy.settings.json").write_text(json.dumps(PAGE_SETTINGS), "utf-8")
        for name, extension in self.extensions.items():
            link = self.base / "custom_nodes" / name
            if not link.is_symlink():
                link.symlink_to(extension, target_is_directory=True)
        arguments = ["--port", str(self.port), "--base-directory", str(self.base)]
        arguments += ["--disable-auto-launch", "--database-url", "sqlite:///:memory:"]
        # Nodes that call remote services are of no use here; newer versions also keep the page off the network with it.
        arguments += ["--disable-api-nodes", *self.arguments]
        if FRONTEND:
            arguments += ["--front-end-root", FRONTEND]
        # Its own installation only: nothing of ours may leak into ComfyUI's Python, and nothing is downloaded.
        environment = own_environment() | {"HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
        with open(self.log_path, "wb") as log:
            self._process = subprocess.Popen(
                [str(self.python), "main.py", *arguments],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_):
        self._stop()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            try:
                self.get("/system_stats")
                return
            except OSError:
                time.sleep(0.3)
        raise RuntimeError(f"ComfyUI in {self.folder} did not start; the end of its log:\n{self.log[-4000:]}")

    def _stop(self) -> None:
        for ws in self._sockets.values():
            ws.close()
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    @property
    def version(self) -> str:
        return self.get("/system_stats")["system"]["comfyui_version"]

    def as_user(self, name: str) -> Host:
        """The same server, which must be one with --multi-user, as a new user's page talks to it."""
        user = copy.copy(self)
        user.headers = {"comfy-user": json.loads(self.post("/users", {"username": name}))}
        return user

    def get(self, path: str):
        return json.loads(self.fetch(path))

    def fetch(self, path: str) -> bytes:
        with urllib.request.urlopen(
            urllib.request.Request(self.url + path, headers=self.headers), timeout=60
        ) as answer:
            return answer.read()

    def post(self, path: str, body: dict | str, timeout: float = 60) -> bytes:
        """Post text, or an object as JSON."""
        data = (body if isinstance(body, str) else json.dumps(body)).encode()
        kind = {} if isinstance(body, str) else {"Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, data, {**self.headers, **kind})
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.read()

    def object_info(self) -> dict:
        return self.get("/object_info")

    def history(self, prompt_id: str) -> dict:
        return self.get(f"/history/{prompt_id}")[prompt_id]

    def interrupt(self) -> None:
        self.post("/interrupt", {})

    def view(self, image: dict) -> bytes:
        """The file behind an output entry {"filename", "subfolder", "type"}."""
        return self.fetch(f"/view?{urllib.parse.urlencode(image)}")

    def submit(self, graph: dict) -> str:
        """Queue a graph in API form; its prompt id. PromptRejected when validation fails."""
        client = uuid.uuid4().hex
        # Connected before queueing, so that no message is missed.
        ws = websocket.create_connection(f"ws://127.0.0.1:{self.port}/ws?clientId={client}", timeout=60)
        try:
            answer = json.loads(self.post("/prompt", {"prompt": graph, "client_id": client}))
        except urllib.error.HTTPError as e:
            ws.close()
            raise PromptRejected(json.load(e)) from None
        self._sockets[answer["prompt_id"]] = ws
        return answer["prompt_id"]

    def follow(
        self, prompt_id: str, on_event: Callable[[str, dict | bytes], None] | None = None, timeout: float = 300
    ) -> Run:
        """Listen until the prompt is finished, failed or interrupted. on_event(kind, data) sees each message."""
        run, node = Run(prompt_id), ""
        for kind, data in self._messages(prompt_id, timeout):
            if kind == "preview":
                run.previews.append((node, data))
            elif kind == "text":
                run.shown.append((node, data))
            else:
                run.events.append((kind, data))
                node = data["node"] if kind == "executing" else node
            if on_event is not None:
                on_event(kind, data)
        return run

    def _messages(self, prompt_id: str, timeout: float) -> Iterator[tuple[str, dict | bytes]]:
        ws = self._sockets.pop(prompt_id)
        deadline = time.monotonic() + timeout
        try:
            while True:
                ws.settimeout(max(deadline - time.monotonic(), 0.001))
                try:
                    message = ws.recv()
                except websocket.WebSocketTimeoutException:
                    log = self.log[-4000:]
                    raise TimeoutError(f"the prompt was not finished after {timeout} s; the log ends:\n{log}") from None
                if isinstance(message, bytes):
                    if int.from_bytes(message[:4], "big") == PREVIEW_IMAGE:
                        yield "preview", message[8:]
                    elif int.from_bytes(message[:4], "big") == TEXT:
                        start = 8 + int.from_bytes(message[4:8], "big")  # after the node's id
                        yield "text", message[start:].decode()
                    continue
                message = json.loads(message)
                kind, data = message["type"], message["data"]
                if data.get("prompt_id") != prompt_id:
                    continue
                yield kind, data
                # The last message of a prompt however it ended; its history is complete by then.
                if kind == "executing" and data["node"] is None:
                    return
        finally:
            ws.close()

    def run(self, graph: dict, **options) -> Run:
        """submit and follow."""
        return self.follow(self.submit(graph), **options)
