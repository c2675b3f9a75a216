"""Sweeps: what a file asks for, who trains it, what is kept when processes are lost, and graphs of ComfyUI as files of runs."""

import json
import threading
import time

import pytest
import yaml
from comfyui_stylegan_fusion.cli import main
from comfyui_stylegan_fusion.cli.sweep import on_ray
from comfyui_stylegan_fusion.cli.sweep.crews import LocalCrew
from comfyui_stylegan_fusion.cli.sweep.graphs import NoGraph, graph_of, options_of
from comfyui_stylegan_fusion.cli.sweep.jobs import arguments_of, read_jobs, yaml_of
from comfyui_stylegan_fusion.cli.sweep.page import Row, write_page
from comfyui_stylegan_fusion.cli.terminal import UsageError
from comfyui_stylegan_fusion.stylegan import read_metadata

SHORT = {"generator": "miniature", "model": "miniature", "targets": 0, "steps": 2, "batch_size": 1, "samples": 2}


def written(path, runs, defaults=SHORT):
    path.write_text(yaml_of(defaults, runs), encoding="utf-8")
    return path


def data_of(page):
    text = page.read_text("utf-8")
    return json.loads(text.partition('type="application/json">')[2].partition("</script>")[0])


def test_a_sweep_trains_each_run_once_and_says_what_became_of_those_that_fail(tmp_path, capsys):
    runs = [
        {"prompt": "a portrait of a fox", "name": "fox 1"},
        {"prompt": "a portrait of a </script> robot", "steps": 3, "extra-prompt": [["gold", 0.5], ["snow", -0.2]]},
        {"prompt": "a portrait of a cat", "class-index": 2},  # this generator has no classes
    ]
    file, root = written(tmp_path / "runs.yaml", runs), tmp_path / "out"
    assert main(["sweep", str(file), "--output", str(root), "--clip", "miniature"]) == 1
    said = capsys.readouterr().out
    assert "2 of 3 runs are done, 1 failed" in said and "There is no class 2" in said
    fox, robot, cat = data_of(root / "index.html")
    assert (fox["name"], fox["state"]) == ("fox 1", "done")
    assert robot["prompt"] == "a portrait of a </script> robot" and robot["name"] == "02-a-portrait-of-a-script-robot"
    assert cat["state"] == "failed" and cat["said"].startswith("There is no class 2")
    assert set(fox["scores"]) == {"sds", "directional", "diversity left, %", "CLIP score", "seconds"}
    assert fox["curves"]["sds"][0] == [1, 2] and (root / fox["pictures"]["before_after.png"]).is_file()
    settings = json.loads(read_metadata(root / robot["name"] / "generator.safetensors")["settings"])
    assert settings["extra_prompts"] == [["gold", 0.5], ["snow", -0.2]] and settings["steps"] == 3

    times = {path: path.stat().st_mtime_ns for path in root.rglob("generator.safetensors")}
    assert main(["sweep", str(file), "--output", str(root)]) == 1
    assert "3 runs, 2 of them there already" in capsys.readouterr().out
    assert all(path.stat().st_mtime_ns == before for path, before in times.items())

    other = written(tmp_path / "other.yaml", [{**runs[0], "steps": 5}])
    assert main(["sweep", str(other), "--output", str(root)]) == 1
    assert "holds a run with other settings; give the run another name" in capsys.readouterr().out


def test_a_run_whose_process_is_killed_goes_on_where_it_was(tmp_path):
    runs = [{"prompt": "fox", "steps": 40, "save-every": 4}, {"prompt": "robot"}]
    first, second = jobs = read_jobs(written(tmp_path / "runs.yaml", runs))
    root, crew, killed = tmp_path / "out", LocalCrew([None]), []
    root.mkdir()

    def kill():
        training = first.folder(root) / "training.safetensors"
        while not training.exists():
            time.sleep(0.05)
        killed.append(crew._running[0].pid)
        crew._running[0].kill()

    thread = threading.Thread(target=kill)
    thread.start()
    found = {job.name: result["state"] for job, result in crew.train(jobs, root)}
    thread.join()
    assert killed and found == {first.name: "done", second.name: "done"}
    assert "Going on after" in (first.folder(root) / "log.txt").read_text("utf-8")
    assert first.is_done(root) and second.is_done(root)


def test_a_sweep_that_is_stopped_keeps_what_was_begun(tmp_path):
    (job,) = jobs = read_jobs(written(tmp_path / "runs.yaml", [{"prompt": "fox", "steps": 500, "save-every": 2}]))
    root, crew = tmp_path / "out", LocalCrew([None])
    root.mkdir()

    def stop():
        while not (job.folder(root) / "training.safetensors").exists():
            time.sleep(0.05)
        crew.stop()

    threading.Thread(target=stop).start()
    ((_, result),) = crew.train(jobs, root)
    assert result["state"] == "stopped" and "Go on with" in result["said"]
    assert job.command(root, None)[:2] == ["adapt", "--resume"] and not job.is_done(root)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("runs: []", "has no runs"),
        (
            "runs:\n- prompt: a\n  steps: many",
            r"Run 1 \(1-a|Run 1 \(01-a\): argument --steps: invalid int value: 'many'",
        ),
        ("runs:\n- {prompt: a, stepps: 3}", "unrecognized arguments: --stepps=3"),
        ("runs:\n- {prompt: a, t_min: 0.9, t_max: 0.2}", "range 0.9 to 0.2 is empty"),
        ("runs:\n- {prompt: a, output: b}", "output is what the sweep gives each run itself"),
        ("runs:\n- {prompt: a, name: ../b}", "is named '../b'; names are letters"),
        ("runs:\n- {prompt: a, name: x}\n- {prompt: b, name: X}", "Two runs are named 'X'"),
        ("runs:\n- just words", "options with values"),
        ("prompts:\n- a", "needs `runs:` with a list"),
        ("runs: [", "is no YAML"),
        ("runs:\n- !!python/object/apply:os.system ['true']", "is no YAML"),
    ],
)
def test_a_file_of_runs_that_makes_no_sense_is_refused_before_anything_runs(tmp_path, text, said):
    (tmp_path / "a.yaml").write_text(text + "\n")
    if text.startswith("runs:\n- {prompt"):  # the others lack what all runs need, and are refused for that
        content = yaml.safe_load(text)
        text = yaml_of(SHORT, content["runs"])
    elif "steps: many" in text:
        text = yaml_of(SHORT, [{"prompt": "a", "steps": "many"}])
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(UsageError, match=said):
        read_jobs(tmp_path / "a.yaml")


def test_a_csv_has_the_options_in_its_header(tmp_path):
    file = tmp_path / "runs.csv"
    file.write_text(
        'prompt,generator,model,steps,half,targets,negative prompt\n"a fox, red",miniature,miniature,7,true,0,\nrobot,miniature,miniature,8,,0,x\n'.replace(
            "negative prompt", "negative_prompt"
        )
    )
    fox, robot = read_jobs(file)
    assert (fox.plan.prompt, fox.plan.settings.steps, fox.plan.half) == ("a fox, red", 7, True)
    assert (robot.plan.negative_prompt, robot.plan.half, robot.name) == ("x", False, "02-robot")
    file.write_text("prompt,steps\na,b,c\n")
    with pytest.raises(UsageError, match="another number of columns"):
        read_jobs(file)


def test_values_become_arguments():
    asked = {"steps": 3, "half": True, "mirror": False, "seed": None, "lora": [["a"], ["b:0.5"]], "prompt": "-x y"}
    assert arguments_of(asked) == [
        "adapt", "--steps=3", "--half", "--no-mirror", "--lora", "a", "--lora", "b:0.5", "--prompt=-x y",
    ]  # fmt: skip


RUNS = {
    "targets": {"prompt": "fox", "targets": 12, "target-strength": 0.7, "source-prompt": "person", "steps": 9},
    "score distillation": {
        "prompt": "a fox", "negative-prompt": "a person", "targets": 0, "guidance-scale": 3.5, "t-max": 0.6, "seed": 5,
        "layers": "top3", "selection-steps": 2, "directional": 0.7, "lpips": 20.0, "optimizer": "muon", "average": 0.9,
        "extra-prompt": [["gold", 0.5], ["snow", -0.25]], "also-train": "to_rgb",
    },
    "styles": {"prompt": "doll", "targets": 0, "parameterization": "styles", "layers": "1-3,6", "reconstruction": 0.5},
    "distribution matching": {"prompt": "doll", "targets": 0, "distillation": "vsd", "fake-rank": 4, "directional": 0.0},
    "csd": {"prompt": "doll", "targets": 0, "distillation": "csd", "recompute": True, "class-index": 3},
    "files": {
        "prompt": "doll", "generator": "models/stylegan/cats.pkl", "model": "models/checkpoints/sd.safetensors",
        "lora": [["models/loras/a.safetensors:0.5"], ["models/loras/b.safetensors:1"]], "targets": 0, "lpips": 1.0,
        "lpips-features": "models/lpips/vgg.pth", "directional": 0.2, "image-size": 256,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", list(RUNS))
def test_a_run_as_a_graph_and_back_is_the_same_run(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("comfyui_stylegan_fusion.cli.planning._draws_in_3d", lambda generator: False)
    asked = {"generator": "miniature", "model": "miniature", **RUNS[name]}
    (job,) = read_jobs(written(tmp_path / "a.yaml", [{**asked, "name": "a"}], {}))
    graph = json.loads(json.dumps(graph_of(job.plan)))
    (back,) = read_jobs(written(tmp_path / "b.yaml", [{**options_of(graph), "name": "a"}], {}))
    assert back.plan.describe() == job.plan.describe()


def test_what_nodes_cannot_do_has_no_graph_and_what_options_cannot_no_file(tmp_path):
    (job,) = read_jobs(written(tmp_path / "a.yaml", [{**SHORT, "prompt": "a", "prediction": "v_prediction"}], {}))
    with pytest.raises(NoGraph, match="--prediction"):
        graph_of(job.plan)
    (job,) = read_jobs(written(tmp_path / "b.yaml", [{**SHORT, "prompt": "a"}], {}))
    graph = graph_of(job.plan)
    with pytest.raises(UsageError, match="0 nodes Train Generator"):
        options_of({name: node for name, node in graph.items() if name != "train"})
    graph["guidance"]["inputs"]["guider"] = ["x", 0]
    with pytest.raises(UsageError, match="has a guider"):
        options_of(graph)


def test_a_file_of_runs_is_written_from_a_graph_with_a_run_for_each_prompt(tmp_path, capsys):
    (job,) = read_jobs(written(tmp_path / "a.yaml", [{**SHORT, "prompt": "a"}], {}))
    (tmp_path / "graph.json").write_text(json.dumps(graph_of(job.plan)))
    (tmp_path / "prompts.txt").write_text("a fox\n\na robot\n")
    given = ["sweep-file", str(tmp_path / "graph.json"), "--prompts", str(tmp_path / "prompts.txt")]
    assert main([*given, "--output", str(tmp_path / "runs.yaml")]) == 0
    assert [one.plan.prompt for one in read_jobs(tmp_path / "runs.yaml")] == ["a fox", "a robot"]
    (tmp_path / "page.json").write_text('{"nodes": []}')
    assert main(["sweep-file", str(tmp_path / "page.json"), "--output", str(tmp_path / "x.yaml")]) == 1
    assert "export it with Export (API)" in capsys.readouterr().err


def test_a_page_of_runs_that_wait_is_written_before_they_begin(tmp_path):
    jobs = read_jobs(written(tmp_path / "runs.yaml", [{"prompt": f"fox {i}"} for i in range(3)]))
    write_page(tmp_path, [Row(job, {}) for job in jobs], "<three>")
    assert [one["state"] for one in data_of(tmp_path / "index.html")] == ["waiting"] * 3
    assert "<title>&lt;three&gt;</title>" in (tmp_path / "index.html").read_text()


def test_a_machine_of_a_cluster_without_the_sweeps_folder_sends_its_files_back(tmp_path):
    (job,) = read_jobs(written(tmp_path / "runs.yaml", [{"prompt": "fox"}]))
    root = tmp_path / "out"
    given = job.command(root, None), list(job.arguments), str(job.folder(root)), str(root / on_ray.MARK), "a mark", None
    result, files = on_ray._trained(*given)  # there is no such mark here
    assert result["state"] == "done" and not job.folder(root).exists()
    on_ray._put(files, job.folder(root))
    assert job.is_done(root) and {"generator.safetensors", "before_after.png", "log.txt"} <= files.keys()
    (root / on_ray.MARK).write_text("a mark")
    result, files = on_ray._trained(job.command(root, None), *given[1:])
    assert result["state"] == "done" and files == {}  # the folder is the sweep's own: it has been done there
