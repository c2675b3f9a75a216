"""ComfyUI Manager installs the project from a repository into a ComfyUI that has never seen it, and it works there."""

import shutil
import subprocess

import graphs
import pytest
from comfy_host import PROJECT, Host, HostNotFound, find_comfyui, own_environment

NAME = "comfyui-stylegan-fusion"

# What a user sets to let Manager install from an address, and, for here, to keep it off the network.
CONFIGURATION = """[default]
allow_git_url_install = true
network_mode = offline
use_uv = False
file_logging = False
"""


def output_of(*command, **options) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def installed_packages(python) -> set[str]:
    return {*output_of(python, "-m", "pip", "list", "--format=freeze", env=own_environment()).split()}


@pytest.fixture(scope="module")
def comfyui():
    """ComfyUI's folder and its Python, which has the Manager that this ComfyUI asks for."""
    try:
        folder, python = find_comfyui()
    except HostNotFound as error:
        pytest.skip(str(error))
    if not (folder / "manager_requirements.txt").exists():
        pytest.skip(f"the ComfyUI in {folder} is older than the Manager that comes as a package")
    command = [str(python), "-c", "import importlib.util as u, sys; sys.exit(not u.find_spec('comfyui_manager'))"]
    if subprocess.run(command, env=own_environment()).returncode:
        pytest.skip(f"no ComfyUI Manager: {python} -m pip install -r {folder / 'manager_requirements.txt'}")
    return folder, python


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """The project as it is now, committed to a repository of its own."""
    if shutil.which("git") is None:
        pytest.skip("no git, which Manager needs")
    place = tmp_path_factory.mktemp("published") / NAME
    listed = ["git", "-C", PROJECT, "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        names = output_of(*listed, encoding="utf-8").split("\0")
    except AssertionError:
        pytest.skip(f"{PROJECT} is no clone of the repository")
    for name in names:
        if name and (PROJECT / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(PROJECT / name, place / name)
    git = ["git", "-C", place, "-c", "user.name=Test", "-c", "user.email=test@localhost", "-c", "core.autocrlf=false"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "Everything"]):
        output_of(*git, *command)
    return place


def test_manager_installs_the_project_and_its_graph_runs(comfyui, repository, tmp_path):
    _, python = comfyui
    settings = tmp_path / "user" / "__manager" / "config.ini"
    settings.parent.mkdir(parents=True)
    settings.write_text(CONFIGURATION, "utf-8")
    packages = installed_packages(python)

    with Host(*comfyui, tmp_path, arguments=("--enable-manager-legacy-ui",), folder_name=None) as host:
        assert not any(name.startswith("StyleGANFusion") for name in host.object_info())
        host.post("/v2/customnode/install/git_url", f"file://localhost{repository.as_posix()}", timeout=300)
    assert (tmp_path / "custom_nodes" / NAME / "nodes").is_dir()
    assert installed_packages(python) == packages  # torch least of all is touched

    with Host(*comfyui, tmp_path, arguments=("--enable-manager",), folder_name=None) as host:
        assert NAME in host.get("/v2/customnode/installed")
        assert f"custom_nodes.{NAME}" in host.object_info()["StyleGANFusionTrainGenerator"]["python_module"]
        run = host.run(graphs.training())
        assert run.succeeded, run.error
        assert [path.name for path in (host.output / "stylegan").glob("fox_*")] == ["fox_00001.safetensors"]
