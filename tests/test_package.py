"""The package as it is installed: what importing it costs, what the wheel holds, which room knows which."""

import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

PROJECT = Path(__file__).resolve().parents[1]
# What ComfyUI's page reads.
OF_THE_HOST = ("web", "locales", "example_workflows", "subgraphs")
# Which rooms each room may import.
ALLOWED = {
    "training": set(),
    "metrics": {"training"},
    "stylegan": {"training", "metrics"},
    "sds": {"training", "metrics", "stylegan"},
    "domain": {"training", "metrics", "stylegan", "sds"},
    "miniature": {"training", "metrics", "stylegan", "sds", "domain"},
    "nodes": {"training", "metrics", "stylegan", "sds", "domain", "miniature"},
    "cli": {"training", "metrics", "stylegan", "sds", "domain", "miniature"},
}
# ComfyUI's modules. Its public interface, comfy_api, is another one.
HOST = {
    "comfy",
    "comfy_execution",
    "comfy_extras",
    "comfyui_version",
    "execution",
    "folder_paths",
    "nodes",
    "server",
    "utils",
}
# Of nodes/, what is tested without a host: modules that import neither its modules nor its interface.
FREE_OF_THE_HOST = ("panel", "adapt/run.py", "adapt/endings.py", "adapt/unfinished.py")
FREE_OF_THE_HOST += ("adapt/spare_memory.py", "adapt/prompt_text.py")
FREE_OF_THE_HOST += ("outputs.py", "file_names.py", "on_device.py", "sentences.py", "web_files.py", "__init__.py")


def python(code: str, **environment) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        cwd=PROJECT.parent,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def absolute_imports(source: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module.split(".")[0])
    return found


def sources_in(place: Path) -> list[Path]:
    return [place] if place.is_file() else sorted(place.rglob("*.py"))


def imported_rooms(source: Path) -> set[str]:
    depth = len(source.relative_to(PROJECT).parts)
    found = set()
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.level in (0, depth):
            found.add(node.module.split(".")[0])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
    return found


@pytest.mark.parametrize("room", ALLOWED)
def test_imports_go_one_way(room):
    sources = sources_in(PROJECT / room)
    assert sources
    for source in sources:
        rooms = imported_rooms(source)
        assert rooms & {*(name.removesuffix(".py") for name in ALLOWED)} <= ALLOWED[room] | {
            room.removesuffix(".py")
        }, source
        if room != "nodes":
            assert not any(
                name.startswith(("comfy", "folder_paths")) for name in rooms - {"comfyui_stylegan_fusion"}
            ), source


def test_only_one_folder_imports_the_host():
    nodes = sources_in(PROJECT / "nodes")
    importing = {source for source in nodes if absolute_imports(source) & HOST}
    assert importing and all(source.is_relative_to(PROJECT / "nodes" / "host") for source in importing), importing


@pytest.mark.parametrize("place", FREE_OF_THE_HOST)
def test_what_needs_no_host_imports_none(place):
    for source in sources_in(PROJECT / "nodes" / place):
        assert not absolute_imports(source) & {*HOST, "comfy_api"}, source


def test_what_needs_no_host_is_imported_without_one():
    """Neither it nor what it imports itself."""
    files = [path for place in FREE_OF_THE_HOST for path in sources_in(PROJECT / "nodes" / place)]
    modules = [
        ".".join(("comfyui_stylegan_fusion", *path.relative_to(PROJECT).with_suffix("").parts)) for path in files
    ]
    modules = [name for name in modules if not name.endswith((".routes", ".web_files"))]  # of a server
    hidden = sorted({*HOST, "comfy_api", "aiohttp"})
    code = f"import importlib, sys\nfor name in {hidden}: sys.modules[name] = None\n"
    assert python(code + f"for name in {modules}: importlib.import_module(name)\nprint('fine')") == "fine"


def test_the_folders_of_nodes_do_not_know_each_other():
    """Nodes of different folders share what lies beside the folders, and the host."""
    apart = {"adapt", "explore", "judge", "files"}
    for folder in apart | {"host", "panel"}:
        for source in sources_in(PROJECT / "nodes" / folder):
            for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and node.level == 2 and node.module:
                    assert node.module.split(".")[0] not in apart, source


def test_importing_the_package_imports_nothing_else():
    code = "import sys, comfyui_stylegan_fusion; print(*sorted(m for m in ('torch', 'diffusers', 'PIL') if m in sys.modules))"
    assert python(code) == ""


def test_the_public_names_work():
    code = (
        "import comfyui_stylegan_fusion as p\n"
        "assert {*p.__all__} == {'load_generator', 'save_generator', 'train_generator', 'CheckpointError'}\n"
        "assert all(callable(getattr(p, name)) for name in p.__all__) and {*p.__all__} <= {*dir(p)}\n"
        "print(p.load_generator('miniature').height)\n"
        "try:\n    p.nothing\nexcept AttributeError as error:\n    print(error)"
    )
    assert python(code).splitlines() == ["64", "module 'comfyui_stylegan_fusion' has no attribute 'nothing'"]


def test_the_base_needs_no_diffusers():
    """ComfyUI's users have neither diffusers nor tqdm, and may lack torchmetrics: hidden here, the rooms that nodes use must still import."""
    code = (
        "import sys\nfor name in ('diffusers', 'transformers', 'tqdm', 'accelerate', 'torchmetrics'): sys.modules[name] = None\n"
        "import comfyui_stylegan_fusion as p\n"
        "from comfyui_stylegan_fusion import sds, stylegan, miniature\n"
        "from comfyui_stylegan_fusion.sds import figures\n"
        "p.load_generator('miniature'); print('fine')"
    )
    assert python(code) == "fine"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the wheel's content, installed there without its dependencies."""
    if importlib.util.find_spec("setuptools") is None:
        pytest.skip("setuptools is not installed here, so no wheel can be built without the network")
    place = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    # From a copy: a build folder left in the sources would let deleted files live on.
    sources = place / "sources"
    left_out = shutil.ignore_patterns(".*", "build", "*.egg-info", "training-runs", "__pycache__")
    shutil.copytree(PROJECT, sources, ignore=left_out)
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(place), str(sources)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = place.glob("*.whl")
    target = place / "site"
    subprocess.run([*pip, "install", "--no-deps", "--target", str(target), str(wheel)], check=True, capture_output=True)
    return target


def test_the_wheel_works_by_itself(installed, tmp_path):
    code = (
        "import comfyui_stylegan_fusion as p, sys\n"
        "from comfyui_stylegan_fusion.cli import main\n"
        "print(p.__file__)\n"
        f"sys.exit(main(['demo', '--steps', '1', '--targets', '2', '--target-levels', '2', '--output', {str(tmp_path / 'demo')!r}]))"
    )
    output = python(code, PYTHONPATH=str(installed))
    assert output.splitlines()[0] == str(installed / "comfyui_stylegan_fusion" / "__init__.py")
    assert (tmp_path / "demo" / "generator.safetensors").exists()


def test_the_wheel_holds_every_source_of_the_rooms_and_no_tests(installed):
    package = installed / "comfyui_stylegan_fusion"
    for room in ("training", "metrics", "stylegan", "sds", "domain", "miniature", "nodes", "cli"):
        there = {path.relative_to(package) for path in (package / room).rglob("*.py")}
        assert there == {path.relative_to(PROJECT) for path in (PROJECT / room).rglob("*.py")}, room
    weights = {path.relative_to(PROJECT) for path in (PROJECT / "miniature/weights").rglob("*") if path.is_file()}
    assert weights == {
        path.relative_to(package) for path in (package / "miniature/weights").rglob("*") if path.is_file()
    }
    for folder in OF_THE_HOST:
        held = {path.relative_to(package) for path in (package / folder).rglob("*") if path.is_file()}
        assert held == {path.relative_to(PROJECT) for path in (PROJECT / folder).rglob("*") if path.is_file()}, folder
    assert not (package / "tests").exists() and not (package / "benchmarks").exists()


def tracked(*options) -> set[str]:
    """Paths that git lists; new ones count before they are committed."""
    if not (PROJECT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("no clone of the repository, or no git")
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", *options]
    done = subprocess.run(command, capture_output=True, check=True, cwd=PROJECT)
    return {name for name in done.stdout.decode().split("\0") if name}


def test_the_registry_s_archive_holds_what_runs_and_no_more():
    """The registry packs what is tracked and not in .comfyignore, whose patterns are those of git."""
    outside = tracked("--ignored", "--exclude-from=.comfyignore")
    archive = tracked() - outside
    folders = {name.split("/")[0] for name in archive if "/" in name}
    assert folders == {
        "training",
        "metrics",
        "stylegan",
        "sds",
        "domain",
        "miniature",
        "nodes",
        "cli",
        "docs",
        *OF_THE_HOST,
    }
    assert {"__init__.py", "pyproject.toml", "requirements.txt", "README.md", "LICENSE"} <= archive
    assert "miniature/weights/generator.safetensors" in archive and "example_workflows/quickstart.json" in archive
    assert {name for name in tracked() if name.startswith(("web/", "locales/"))} <= archive, "help and translations"
    assert not any(name.startswith("training-runs/") for name in archive)
    assert sum((PROJECT / name).stat().st_size for name in archive if (PROJECT / name).exists()) < 40 << 20


def metadata() -> dict:
    with open(PROJECT / "pyproject.toml", "rb") as file:
        return pytest.importorskip("tomllib").load(file)


def test_the_registry_finds_what_it_asks_for():
    """https://docs.comfy.org/registry/specifications"""
    project, comfy = metadata()["project"], metadata()["tool"]["comfy"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", project["version"]) and re.fullmatch(r"[a-z][a-z0-9-]+", project["name"])
    assert comfy["PublisherId"] and comfy["DisplayName"] == "StyleGAN Fusion"
    assert re.fullmatch(r">=\d+\.\d+\.\d+", comfy["requires-comfyui"])
    assert comfy["requires-comfyui"].removeprefix(">=") in (PROJECT / "README.md").read_text("utf-8")
    raw = project["urls"]["Repository"].replace("github.com", "raw.githubusercontent.com") + "/main/"
    for key, size in (("Icon", (400, 400)), ("Banner", (1260, 540))):  # square, and 21:9
        with Image.open(PROJECT / comfy[key].removeprefix(raw)) as picture:
            assert picture.size == size
    systems = {name.rpartition(" :: ")[2] for name in project["classifiers"] if name.startswith("Operating System")}
    assert systems == {"Windows", "Linux", "MacOS"}


def test_what_comfyui_installs_leaves_torch_alone():
    lines = (PROJECT / "requirements.txt").read_text("utf-8").splitlines()
    wanted = [line.partition("#")[0].strip() for line in lines if line.partition("#")[0].strip()]
    allowed = {re.split(r"[<>=!~ ]", name)[0] for name in metadata()["project"]["dependencies"]} | {"torchmetrics"}
    for requirement in wanted:
        # A lower bound alone never takes the place of what is installed and new enough.
        assert re.fullmatch(r"[a-z]+>=[\d.]+", requirement), requirement
        assert requirement.partition(">=")[0] in allowed - {"torch"}
