"""Style vectors and differences in a real ComfyUI: trained through Layer Select, saved, applied, mixed; and a sweep's run as a
graph that the page opens and runs."""

import io
import json

import torch
from comfyui_stylegan_fusion.cli.sweep.graphs import graph_of, options_of
from comfyui_stylegan_fusion.cli.sweep.jobs import read_jobs, yaml_of
from comfyui_stylegan_fusion.metrics.figures import to_pictures
from comfyui_stylegan_fusion.miniature import DIFFERENCES, GENERATOR
from comfyui_stylegan_fusion.stylegan import (
    load_difference,
    load_generator,
    read_metadata,
    render_samples,
    sample_z,
    with_differences,
)
from graphs import MINIATURE, training
from PIL import Image

SAMPLE = {"seed": 3, "count": 3, "truncation_psi": 1.0, "truncation_cutoff": 0, "noise": "const"}


def node(kind, **inputs):
    return {"class_type": f"StyleGANFusion{kind}", "inputs": inputs}


def drawn(host, run, name):
    pictures = [Image.open(io.BytesIO(host.view(image))).convert("RGB") for image in run.outputs[name]["images"]]
    return torch.stack([torch.frombuffer(bytearray(one.tobytes()), dtype=torch.uint8).float() for one in pictures])


def expected(parts):
    generator = with_differences(load_generator(GENERATOR), parts)
    pictures = to_pictures(render_samples(generator, sample_z(generator.z_dim, 3, 3)))
    return torch.stack(
        [torch.frombuffer(bytearray(one.convert("RGB").tobytes()), dtype=torch.uint8).float() for one in pictures]
    )


def test_bundled_vectors_are_applied_and_mixed_as_by_hand(host):
    zombie, doll = (load_difference(path) for path in DIFFERENCES.values())
    graph = {
        "miniature": MINIATURE,
        "zombie": node("ApplyDifference", generator=["miniature", 3], file="miniature-zombie", amount=1.0),
        "doll": node("ApplyDifference", generator=["miniature", 3], file="miniature-doll", amount=0.5),
        "both": node("ApplyDifference", generator=["zombie", 0], file="miniature-doll", amount=-0.25),
        "mix": node(
            "MixDomains",
            source=["miniature", 3],
            first=["zombie", 0],
            first_amount=0.75,
            second=["doll", 0],
            second_amount=0.5,
        ),
        "save": node("SaveGenerator", generator=["mix", 0], filename_prefix="summed"),
    }
    for name in ("doll", "both", "mix"):
        graph[f"sample {name}"] = node("SampleGenerator", generator=[name, 0], **SAMPLE)
        graph[f"show {name}"] = {"class_type": "PreviewImage", "inputs": {"images": [f"sample {name}", 0]}}
    run = host.run(graph)
    assert run.succeeded, run.error
    for name, parts in {
        "doll": [(doll, 0.5)],
        "both": [(zombie, 1.0), (doll, -0.25)],
        "mix": [(zombie, 0.75), (doll, 0.25)],
    }.items():
        assert (drawn(host, run, f"show {name}") - expected(parts)).abs().max() <= 1, name
    (path,) = (host.output / "stylegan").glob("summed_*.safetensors")
    assert [one["amount"] for one in json.loads(read_metadata(path)["sum"])] == [0.75, 0.5]


def test_a_training_of_styles_is_saved_as_a_difference_and_offered_in_the_list(host):
    graph = training(steps=2, **{"layers.mode": "all", "layers.parameterization": "styles"})
    graph["difference"] = node(
        "SaveDifference", generator=["train", 0], source=["miniature", 3], filename_prefix="near/fox"
    )
    run = host.run(graph)
    assert run.succeeded, run.error
    (path,) = (host.output / "stylegan" / "near").glob("fox_*.difference.safetensors")
    found = load_difference(path)
    assert found.is_of(load_generator(GENERATOR)) and found.metadata["prompt"] == "a portrait of a fox"
    assert all(name.endswith("affine.bias") for name in found.weights) and path.stat().st_size < 40_000
    name, nodes = f"output/near/{path.name}", host.get("/object_info")
    offered = {
        kind: json.dumps(nodes[f"StyleGANFusion{kind}"]["input"]["required"]["file"])
        for kind in ("ApplyDifference", "LoadGenerator")
    }
    assert name in offered["ApplyDifference"] and path.name not in offered["LoadGenerator"]
    graph = {
        "miniature": MINIATURE,
        "apply": node("ApplyDifference", generator=["miniature", 3], file=name, amount=1.0),
        "sample": node("SampleGenerator", generator=["apply", 0], **SAMPLE),
        "show": {"class_type": "PreviewImage", "inputs": {"images": ["sample", 0]}},
    }
    run = host.run(graph)
    assert run.succeeded, run.error
    assert (drawn(host, run, "show") - expected([(found, 1.0)])).abs().max() <= 1
    same = node("SaveDifference", generator=["miniature", 3], source=["miniature", 3], filename_prefix="none")
    run = host.run({"miniature": MINIATURE, "same": same})
    assert not run.succeeded and "have the same weights" in str(run.error)


def test_a_run_of_a_sweep_opens_as_a_graph_that_trains_the_same(host, page, tmp_path):
    asked = {
        "generator": "miniature", "model": "miniature", "prompt": "a portrait of a fox", "targets": 4, "target-levels": 2,
        "steps": 2, "batch-size": 1, "samples": 2, "layers": "1-3", "parameterization": "styles", "directional": 0.5,
        "distillation": "sds", "extra-prompt": [["gold", 0.25]], "optimizer": "adam",
    }  # fmt: skip
    (tmp_path / "runs.yaml").write_text(yaml_of(asked, [{"name": "a"}]))
    (job,) = read_jobs(tmp_path / "runs.yaml")
    opened = page.evaluate(
        "async graph => { await window.app.loadApiJson(graph, 'sweep'); return (await window.app.graphToPrompt()).output; }",
        graph_of(job.plan),
    )
    run = host.run(opened)
    assert run.succeeded, run.error
    path = max((host.output / "stylegan").glob("generator_*.safetensors"), key=lambda one: one.stat().st_mtime)
    made = json.loads(read_metadata(path)["settings"])
    for name in ("steps", "batch_size", "learning_rate", "parameterization", "optimizer", "t_min", "t_max"):
        assert made[name] == getattr(job.plan.settings, name), name
    assert made["extra_prompts"] == "gold" and made["extra_scales"] == [0.25]
    assert made["layers"] == {"choice": "list", "layers": [1, 2, 3]}
    assert sorted(one["term"] for one in made["terms"]) == ["directional", "sds", "targets"]
    (tmp_path / "back.yaml").write_text(yaml_of(options_of(opened), [{"name": "a"}]))
    (back,) = read_jobs(tmp_path / "back.yaml")
    assert back.plan.describe() == job.plan.describe()
