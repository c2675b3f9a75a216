"""The pack among others: what saved workflows depend on stays, every text is there, and folders, users and servers of
any kind do."""

import copy
import json
import re
import urllib.error
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

import graphs
import pytest
import registered
import websocket
import workflow_files
from comfy_host import EXTENSION_FOLDER, PROJECT, Host, HostNotFound, PromptRejected, find_comfyui
from comfyui_stylegan_fusion.stylegan import read_metadata
from comfyui_stylegan_fusion.training.files import locked

TEMPLATES = sorted((PROJECT / "example_workflows").glob("*.json"))
BLUEPRINTS = sorted((PROJECT / "subgraphs").glob("*.json"))
DOCS = PROJECT / "web" / "docs"
HOW = "python tests/host/registered.py writes it"

# A copy that a file manager made, in a language with more letters than English.
ODD_FOLDER = "StyleGAN Füsion 1.0 (copy)"


@pytest.fixture(scope="module")
def info(host):
    return host.object_info()


@pytest.fixture(scope="module")
def nodes(info):
    return registered.ours(info)


def test_saved_workflows_keep_loading(info):
    """Ids stay; inputs and outputs come after the old ones, and new inputs may be missing; what was chosen still can be."""
    before = json.loads(registered.SCHEMAS.read_text("utf-8"))
    now = registered.schemas(info)
    broken = registered.breakages(before, now)
    assert not broken, "\n".join(broken)
    assert before.keys() == now.keys(), f"schemas.json lacks nodes: {HOW}"
    for name, node in before.items():
        rows = [{**row, "options": ()} for row in node["inputs"]]  # the host's files differ from run to run
        assert rows == [{**row, "options": ()} for row in now[name]["inputs"]], f"{name} in schemas.json is old: {HOW}"


@pytest.mark.parametrize(
    "change",
    [
        lambda node: node["inputs"].pop(0),
        lambda node: node["inputs"].reverse(),
        lambda node: node["inputs"].append({"name": "new", "type": "INT", "optional": False}),
        lambda node: node["inputs"][-1].update(type="STRING"),
        lambda node: node["inputs"][2].update(max=3),
        lambda node: node["inputs"][5].update(options=["const"]),
        lambda node: node["inputs"][2].update(default=17),
        lambda node: node["outputs"].insert(0, ["mask", "MASK"]),
    ],
)
def test_what_would_break_saved_workflows_is_noticed(info, change):
    before = registered.schemas(info)
    now = copy.deepcopy(before)
    change(now["StyleGANFusionSampleGenerator"])
    assert len(registered.breakages(before, now)) == 1
    del now["StyleGANFusionSampleGenerator"]
    assert registered.breakages(before, now) == ["StyleGANFusionSampleGenerator is gone"]


@pytest.mark.parametrize("path", TEMPLATES + BLUEPRINTS, ids=lambda path: path.stem)
def test_templates_and_blueprints_fit_the_nodes(info, path):
    found = workflow_files.complaints(json.loads(path.read_text("utf-8")), info)
    assert not found, "\n".join(found)


def test_blueprints_are_offered_and_open(host, page):
    try:
        offered = host.get("/global_subgraphs")
    except urllib.error.HTTPError:
        pytest.skip("this ComfyUI has no blueprints")
    names = [entry["name"] for entry in offered.values() if "stylegan" in entry["info"]["node_pack"].lower()]
    assert sorted(names) == sorted(path.stem for path in BLUEPRINTS)
    for path in BLUEPRINTS:
        kinds = {node["class_type"] for node in page.api_form(path).values()}
        assert kinds & {"StyleGANFusionSDSGuidance", "StyleGANFusionProjectImage"}, path.stem


def saved_node(number, kind, values, inputs=()):
    slots = [{"name": name, "link": link} for name, link in inputs]
    return {"id": number, "type": f"StyleGANFusion{kind}", "widgets_values": values, "inputs": slots}


def test_a_template_that_does_not_fit_is_noticed(info):
    good = [
        saved_node(1, "LayerSelect", ["all", 3, 1, "1, 2"]),
        saved_node(2, "LoadMiniature", []),
        saved_node(3, "SampleGenerator", [7, "fixed", 4, 0.7, 0, "const", -1], [("generator", 1)]),
        saved_node(4, "SampleGenerator", [7, "fixed", 4, 0.7, 0, "const"]),  # before it had its last input
    ]
    links = [[1, 2, 3, 3, 0, "STYLEGAN_FUSION_GENERATOR"]]
    assert workflow_files.complaints({"nodes": good, "links": links}, info) == []
    bad = [
        (saved_node(1, "LayerSelect", ["some", 3, 1, "1"]), "'some' is no option of mode"),
        (saved_node(1, "LayerSelect", ["all", 3, 1]), "no value for layers"),
        (saved_node(1, "SaveGenerator", ["fox", 1]), "more values than widgets"),
        (saved_node(1, "DirectionalRegularizer", ["much"]), "'much' is no FLOAT for weight"),
        (saved_node(1, "SampleGenerator", [7, "fixed", 0, 0.7, 0, "const", -1]), "0 is out of range for count"),
        (saved_node(1, "SampleGenerator", [7, 4, 0.7, 0, "const", -1]), "4 is not what happens to seed"),
        (saved_node(1, "LoadMiniature", [], [("file", None)]), "no input file"),
        (saved_node(1, "Nothing", []), "there is no node StyleGANFusionNothing"),
    ]
    for node, said in bad:
        assert said in workflow_files.complaints({"nodes": [node], "links": []}, info)[0]
    for link, said in (
        ([1, 2, 3, 3, 0, "IMAGE"], "has no output 3 of type IMAGE"),
        ([1, 2, 9, 3, 0, "MODEL"], "output 9"),
    ):
        found = workflow_files.complaints({"nodes": good, "links": [link]}, info)
        assert said in found[0] and "takes no" in found[1]


def sentences(node):
    """What a node says, and where."""
    yield "its description", node["description"]
    yield from ((f"the input {row['name']}", row.get("tooltip")) for row in registered.inputs_of(node))
    yield from zip((f"the output {name}" for name in node["output_name"]), node["output_tooltips"], strict=True)


def test_every_node_input_and_output_is_explained_in_sentences(nodes):
    wrong = []
    for name, node in nodes.items():
        options = [str(value) for row in registered.inputs_of(node) for value in row.get("options", [])]
        for place, text in sentences(node):
            if not text:
                wrong.append(f"{name}: nothing explains {place}")
            elif text[0].islower() and not text.startswith(tuple(options)):
                wrong.append(f"{name}: what explains {place} begins with a small letter")
            elif not text.endswith((".", "!", "?", ")")):
                wrong.append(f"{name}: what explains {place} has no end")
    assert not wrong, "\n".join(wrong)


def test_every_node_has_a_help_page_that_the_host_serves(host, nodes):
    folder = urllib.parse.quote(EXTENSION_FOLDER)
    wrong = []
    for name, node in nodes.items():
        if not (DOCS / f"{name}.md").exists():
            wrong.append(f"web/docs/{name}.md is missing")
            continue
        text = host.fetch(f"/extensions/{folder}/docs/{name}.md").decode()
        assert text == (DOCS / f"{name}.md").read_text("utf-8")
        wrong += [
            f"web/docs/{name}.md says nothing of {row['name']}"
            for row in registered.inputs_of(node)
            if row["type"] in ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO") and row["name"] not in text
        ]
        for picture in re.findall(r"!\[[^]]*\]\(([^)]+)\)", text):
            assert (DOCS / picture).is_file(), f"web/docs/{name}.md shows {picture}, which is not there"
    assert not wrong, "\n".join(wrong)


def test_every_node_is_found_by_other_words(nodes):
    if not any("search_aliases" in node for node in nodes.values()):
        pytest.skip("this ComfyUI has no search aliases")
    assert [name for name, node in nodes.items() if not node["search_aliases"]] == []


def test_translations_begin_with_the_english_of_the_schemas(host, info):
    written = json.loads(registered.LOCALE.read_text("utf-8"))
    assert written == registered.locale(info), f"locales/en is old: {HOW}"
    served = host.get("/i18n")["en"]["nodeDefs"]
    assert {name: served[name] for name in written} == written


def test_the_page_shows_the_translations_as_they_are_written(page):
    """It compiles them: a brace or a bar in a text would be no letter to it."""

    def texts(branch, path):
        if isinstance(branch, str):
            yield path, branch
        else:
            for key, value in branch.items():
                yield from texts(value, f"{path}.{key}")

    written = dict(texts(json.loads(registered.LOCALE.read_text("utf-8")), "nodeDefs"))
    translate = "document.getElementById('vue-app').__vue_app__.config.globalProperties.$t"
    shown = page.evaluate(f"keys => keys.map(key => {translate}(key))", list(written))
    assert shown == list(written.values())


@pytest.fixture(scope="module")
def two_servers(tmp_path_factory):
    """Two ComfyUIs on the same folders, the first for several users, with the pack in an oddly named folder."""
    try:
        found = find_comfyui()
    except HostNotFound as error:
        pytest.skip(str(error))
    base = tmp_path_factory.mktemp("shared")
    with (
        Host(*found, base, arguments=("--multi-user",), folder_name=ODD_FOLDER) as first,
        Host(*found, base, folder_name=ODD_FOLDER) as second,
    ):
        yield first, second


class Listener:
    """All that the server tells one page."""

    def __init__(self, host, name):
        address = host.url.replace("http", "ws") + f"/ws?clientId={name}"
        self._socket = websocket.create_connection(address, timeout=60)
        self._socket.settimeout(1)

    def heard(self) -> str:
        said = []
        while True:
            try:
                message = self._socket.recv()
            except websocket.WebSocketTimeoutException:
                self._socket.close()
                return "\n".join(said)
            said.append(message if isinstance(message, str) else "")


def test_a_folder_of_any_name_works(two_servers):
    first, _ = two_servers
    assert "IMPORT FAILED" not in first.log and "Traceback" not in first.log
    modules = {node["python_module"] for node in registered.ours(first.object_info()).values()}
    assert modules == {f"custom_nodes.{ODD_FOLDER}"}
    folder = urllib.parse.quote(ODD_FOLDER)
    for path in sorted(path.relative_to(PROJECT / "web") for path in (PROJECT / "web").rglob("*") if path.is_file()):
        assert first.fetch(f"/extensions/{folder}/{urllib.parse.quote(path.as_posix())}")
    listed = first.get("/api/workflow_templates")[ODD_FOLDER]
    assert sorted(listed) == [path.stem for path in TEMPLATES]
    for name in listed:
        assert first.fetch(f"/api/workflow_templates/{folder}/{name}.json")


def test_users_and_servers_train_at_once_and_keep_apart(two_servers, tmp_path):
    first, second = two_servers
    ann, ben = first.as_user("ann"), first.as_user("ben")
    watching = Listener(ben, "bens-page")
    users = first.base / "user"
    before = {path for path in users.rglob("*") if path.is_file()}
    # The same prefix; the second server trains what Ann does, at the same time.
    graph = {
        owner: graphs.training(4, **{"train.seed": seed, "train.save_every": 1, "train.panel": f"{owner}'s panel"})
        for owner, seed in (("ann", 1), ("ben", 2), ("other", 1))
    }
    with ThreadPoolExecutor() as pool:
        jobs = [(ann, "ann"), (ben, "ben"), (second, "other")]
        runs = list(pool.map(lambda job: job[0].run(graph[job[1]], timeout=300), jobs))
    assert all(run.succeeded for run in runs), [run.error for run in runs]

    made = sorted((first.output / "stylegan").glob("fox_*"))
    assert [path.name for path in made] == ["fox_00001.safetensors", "fox_00002.safetensors", "fox_00003.safetensors"]
    assert sorted(read_metadata(path)["seed"] for path in made) == ["1", "1", "2"]
    alike = [path for path in made if read_metadata(path)["seed"] == "1"]
    assert len({path.read_bytes() for path in alike}) == 1, "two servers gave different results for one graph"
    left = [path for path in (first.output / "stylegan").rglob("*") if path.suffix in (".tmp", ".lock")]
    assert left == [] and not list((first.output / "stylegan" / "unfinished").glob("*.safetensors"))

    assert {path for path in users.rglob("*") if path.is_file()} == before, "something was written among users' files"
    heard = watching.heard()
    assert runs[0].prompt_id not in heard and "ann's panel" not in heard, "Ben's page was told of Ann's training"


def saving(prefix):
    inputs = {"generator": ["miniature", 3], "filename_prefix": prefix}
    return {"miniature": graphs.MINIATURE, "save": {"class_type": "StyleGANFusionSaveGenerator", "inputs": inputs}}


def test_a_name_that_another_comfyui_is_writing_is_left_to_it(two_servers):
    host, _ = two_servers
    folder = host.output / "stylegan"
    folder.mkdir(exist_ok=True)
    with locked(folder / ".held_00001.safetensors.lock") as free:
        assert free and host.run(saving("held")).succeeded
    assert [path.name for path in folder.glob("held_*")] == ["held_00002.safetensors"]


def test_names_in_graphs_mean_the_same_on_every_system(two_servers):
    host, _ = two_servers
    assert host.run(saving("animals\\red fox")).succeeded
    load = {
        "class_type": "StyleGANFusionLoadGenerator",
        "inputs": {"file": "output\\animals\\red fox_00001.safetensors"},
    }
    again = saving("animals/red fox")
    again["save"]["inputs"]["generator"] = ["load", 0]
    assert host.run({**again, "load": load}).succeeded
    names = sorted(path.name for path in (host.output / "stylegan" / "animals").iterdir())
    assert names == ["red fox_00001.safetensors", "red fox_00002.safetensors"]
    for prefix, said in (("aux", "a device on Windows"), ("what?", "Windows cannot store"), ("f" * 300, "is too long")):
        with pytest.raises(PromptRejected, match=said):
            host.submit(saving(prefix))
