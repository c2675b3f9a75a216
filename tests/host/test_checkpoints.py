"""Generators in other programs' formats, in a real ComfyUI: listed, loaded, shared, converted."""

import io
import os

import pytest
import torch
from comfy_host import PromptRejected
from comfyui_stylegan_fusion.stylegan import load_checkpoint, load_generator, read_metadata, save_generator
from foreign_files import (
    STYLEGAN3_T,
    build,
    rosinality_generator,
    rosinality_state,
    save_nvlabs,
    save_rosinality,
    save_tensorflow,
    small,
)
from foreign_layouts import basicsr_state, behind, encoder_state, nvlabs_state
from graphs import training
from PIL import Image
from safetensors.torch import save_file


def save_encoder(generator, path):
    state = {**encoder_state(), **behind("decoder.", rosinality_state(generator))}
    torch.save({"state_dict": state, "latent_avg": generator.mapping.w_avg.repeat(8, 1)}, path)


def save_basicsr(generator, path):
    torch.save({"params_ema": {**basicsr_state(generator), "latent_avg": generator.mapping.w_avg}}, path)


@pytest.fixture
def folder(host):
    folder = host.models / "stylegan"
    (folder / "cats").mkdir(parents=True, exist_ok=True)
    return folder


def sampling(file, loads=1, **options):
    """Load a file with one node or more, and draw two pictures with each."""
    graph = {}
    for number in range(loads):
        graph[f"load{number}"] = {"class_type": "StyleGANFusionLoadGenerator", "inputs": {"file": file}}
        graph[f"sample{number}"] = {
            "class_type": "StyleGANFusionSampleGenerator",
            "inputs": {
                "generator": [f"load{number}", 0],
                "seed": 3 + number,
                "count": 2,
                "truncation_psi": 0.7,
                "truncation_cutoff": 0,
                "noise": "const",
                **options,
            },
        }
        images = {"images": [f"sample{number}", 0]}
        graph[f"show{number}"] = {"class_type": "PreviewImage", "inputs": images}
    return graph


def converting(file, **options):
    inputs = {
        "file": file,
        "ending": ".safetensors",
        "filename_prefix": "converted/cats",
        "license_note": "",
        "crop": "auto",
    }
    return {"convert": {"class_type": "StyleGANFusionConvertCheckpoint", "inputs": {**inputs, **options}}}


def test_a_stylegan3_goes_to_nvlabs_layout_and_back(host, folder):
    generator = build(STYLEGAN3_T)
    save_generator(generator, folder / "three.safetensors", {"license": "MIT"})
    run = host.run(converting("three.safetensors", ending=".pt", filename_prefix="three", layout="nvlabs"))
    assert run.succeeded, run.error
    loaded = load_checkpoint(host.output / "stylegan" / "three_00001.pt")
    assert loaded.format == "NVlabs StyleGAN3" and loaded.metadata["license"] == "MIT"
    pairs = zip(generator.state_dict().values(), loaded.generator.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def pictures(host, run, node="show0"):
    return [Image.open(io.BytesIO(host.view(image))).convert("RGB") for image in run.outputs[node]["images"]]


def listed(host, node="StyleGANFusionLoadGenerator"):
    kind, options = host.object_info()[node]["input"]["required"]["file"]
    return kind if isinstance(kind, list) else options["options"]


def expected(generator, **options):
    """The first picture of `sampling`."""
    from comfyui_stylegan_fusion.metrics.figures import to_pictures
    from comfyui_stylegan_fusion.stylegan import render_samples, sample_z

    z = sample_z(generator.z_dim, 2, 3)
    return to_pictures(render_samples(generator, z, 0.7, **options))[0]


def assert_alike(picture, other):
    a, b = (torch.frombuffer(bytearray(p.tobytes()), dtype=torch.uint8).int() for p in (picture, other))
    assert (a - b).abs().max() <= 1


def test_new_files_are_listed_without_a_restart_and_other_files_are_not(host, folder):
    names = ("new.pkl", "new.pt", "new.safetensors", "cats/new.pkl", "notes.txt", ".hidden.pkl")
    assert not set(names) & set(listed(host))
    for name in names:
        (folder / name).write_bytes(b"")
    for node in ("StyleGANFusionLoadGenerator", "StyleGANFusionConvertCheckpoint"):
        assert set(names) & set(listed(host, node)) == {"new.pkl", "new.pt", "new.safetensors", "cats/new.pkl"}
    for name in names:
        (folder / name).unlink()
        assert name not in listed(host)


@pytest.mark.parametrize(
    "name, write, make",
    [
        ("ada.pkl", save_nvlabs, small),
        ("cats/stylegan3.pkl", save_nvlabs, lambda: build(STYLEGAN3_T)),
        ("tensorflow.pkl", save_tensorflow, lambda: small(conv_clamp=None)),
        ("rosinality.pt", save_rosinality, rosinality_generator),
        ("e4e_ffhq.pt", save_encoder, rosinality_generator),
        ("basicsr.pth", save_basicsr, rosinality_generator),
        ("weights.safetensors", lambda g, path: save_file(nvlabs_state(g), path), small),
    ],
)
def test_every_format_loads_and_draws(host, folder, name, write, make):
    write(make(), folder / name)
    run = host.run(sampling(name))
    assert run.succeeded, run.error
    assert_alike(pictures(host, run)[0], expected(make()))


def test_another_network_is_named_in_the_loaders_error(host, folder):
    state = {**rosinality_state(rosinality_generator()), "iwt.ll": torch.ones(2, 2)}
    torch.save({"g_ema": state}, folder / "wavelets.pt")
    save_file({"unet.lora_up.weight": torch.ones(2)}, folder / "lora.safetensors")
    for name, what in {"wavelets.pt": "a SWAGAN generator", "lora.safetensors": "a LoRA of a diffusion model"}.items():
        run = host.run(sampling(name))
        assert f"{name} holds {what}" in run.error["exception_message"]


def test_classes_are_drawn_one_after_the_other_or_as_asked(host, folder):
    save_nvlabs(small(c_dim=3), folder / "classes.pkl")
    for index, wanted in ((-1, None), (2, 2)):
        run = host.run(sampling("classes.pkl", class_index=index))
        assert run.succeeded, run.error
        assert_alike(pictures(host, run)[0], expected(small(c_dim=3), class_index=wanted))
    run = host.run(sampling("classes.pkl", class_index=7))
    assert "There is no class 7: this generator has classes 0 to 2." in run.error["exception_message"]


def test_a_file_that_changes_is_read_again(host, folder):
    save_nvlabs(small(seed=1), folder / "changing.pkl")
    first = pictures(host, host.run(sampling("changing.pkl")))[0]
    again = host.run(sampling("changing.pkl"))
    assert not again.outputs or pictures(host, again)[0].tobytes() == first.tobytes()
    save_nvlabs(small(seed=2), folder / "changing.pkl")
    assert_alike(pictures(host, host.run(sampling("changing.pkl")))[0], expected(small(seed=2)))
    assert first.tobytes() != expected(small(seed=2)).tobytes()


def test_several_nodes_share_one_copy(host, folder):
    save_nvlabs(small(seed=5), folder / "shared.pkl")
    run = host.run(sampling("shared.pkl", loads=3))
    assert run.succeeded, run.error
    assert host.log.count("StyleGAN Fusion read shared.pkl: NVlabs StyleGAN2 (PyTorch pickle), 32 x 32 pixels") == 1
    assert len({picture.tobytes() for n in range(3) for picture in pictures(host, run, f"show{n}")}) > 1
    run = host.run({**sampling("shared.pkl", loads=3), **sampling("shared.pkl", loads=1, seed=99)})
    assert run.succeeded and host.log.count("StyleGAN Fusion read shared.pkl") == 1


@pytest.mark.parametrize(
    "name", ["../ada.pkl", "cats/../../ada.pkl", "/etc/passwd", "C:\\windows\\system.ini", "output/../../a.pkl"]
)
@pytest.mark.parametrize("graph", [sampling, converting])
def test_names_never_leave_the_folders(host, name, graph):
    save_nvlabs(small(), host.models / "ada.pkl")
    with pytest.raises(PromptRejected, match=r"leads out of the folder|no generator file"):
        host.submit(graph(name))


def test_a_hostile_file_gets_one_sentence(host, folder):
    (folder / "hostile.pkl").write_bytes(b"\x80\x02cposix\nsystem\nX\x0e\x00\x00\x00touch executed\x85R.")
    run = host.run(sampling("hostile.pkl"))
    message = run.error["exception_message"]
    assert "hostile.pkl is refused: it names posix.system" in message and message.strip().endswith(".")
    assert not list(host.base.rglob("executed")) and not (host.folder / "executed").exists()
    os.remove(folder / "hostile.pkl")


def test_a_checkpoint_is_converted_to_both_formats_and_keeps_where_it_comes_from(host, folder):
    save_nvlabs(small(), folder / "cats" / "afhq.pkl")
    run = host.run(converting("cats/afhq.pkl", license_note="CC BY-NC 4.0"))
    assert run.succeeded, run.error
    assert run.outputs["convert"]["text"] == ["Saved as stylegan/converted/cats_00001.safetensors"]
    path = host.output / "stylegan" / "converted" / "cats_00001.safetensors"
    metadata = read_metadata(path)
    assert metadata["source"] == "cats/afhq.pkl" and metadata["license"] == "CC BY-NC 4.0"
    assert metadata["source_format"] == "NVlabs StyleGAN2 (PyTorch pickle)"
    loaded = load_generator(path).state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in small().state_dict().items())
    assert "output/converted/cats_00001.safetensors" in listed(host)

    run = host.run(converting("output/converted/cats_00001.safetensors", ending=".pt"))
    assert "rosinality's layout has no place for latents of different widths" in run.error["exception_message"]
    from comfyui_stylegan_fusion.stylegan import GeneratorConfig

    save_generator(
        build(GeneratorConfig(32, 16, 16, 0, 2, 32768, 512)), folder / "plain.safetensors", {"license": "MIT"}
    )
    run = host.run(converting("plain.safetensors", ending=".pt"))
    assert run.succeeded, run.error
    checkpoint = load_checkpoint(host.output / "stylegan" / "converted" / "cats_00001.pt")
    assert checkpoint.format == "rosinality StyleGAN2" and checkpoint.metadata["license"] == "MIT"


def test_a_crop_in_the_metadata_is_applied(host, folder):
    save_nvlabs(small(), folder / "cars.pkl")
    run = host.run(converting("cars.pkl", crop="32x24", filename_prefix="wide"))
    assert run.succeeded, run.error
    (path,) = (host.output / "stylegan").glob("wide_*.safetensors")
    assert read_metadata(path)["crop"] == "32x24"
    run = host.run(sampling(f"output/{path.name}"))
    assert [picture.size for picture in pictures(host, run)] == [(32, 24)] * 2
    with pytest.raises(PromptRejected, match="is no crop; write width and height"):
        host.submit(converting("cars.pkl", crop="wide"))


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
def test_linked_folders_are_looked_into_once(host, folder, tmp_path):
    save_generator(small(), tmp_path / "elsewhere.safetensors")
    (folder / "disk").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "back").symlink_to(folder, target_is_directory=True)
    try:
        names = listed(host)
        assert [name for name in names if "elsewhere" in name] == ["disk/elsewhere.safetensors"]
        assert not any("back" in name for name in names)
        assert host.run(sampling("disk/elsewhere.safetensors")).succeeded
    finally:
        (folder / "disk").unlink()


@pytest.mark.parametrize(
    "name, make, metadata, options",
    [
        ("train3.safetensors", lambda: build(STYLEGAN3_T), {}, {}),
        ("trainclasses.safetensors", lambda: small(c_dim=3), {}, {"train.class_index": 1}),
        ("traincars.safetensors", small, {"crop": "32x24"}, {"train.also_train": "to_rgb"}),
    ],
)
def test_other_kinds_of_generators_are_trained(host, folder, name, make, metadata, options):
    save_generator(make(), folder / name, {"license": "CC0", **metadata})
    graph = training(steps=2, **{"train.generator": ["load", 0], "save.filename_prefix": name.split(".")[0], **options})
    graph["load"] = {"class_type": "StyleGANFusionLoadGenerator", "inputs": {"file": name}}
    run = host.run(graph)
    assert run.succeeded, run.error
    (path,) = (host.output / "stylegan").glob(f"{name.split('.')[0]}_*.safetensors")
    checkpoint, before = load_checkpoint(path), make().state_dict()
    changed = [n for n, value in checkpoint.generator.state_dict().items() if not torch.equal(value, before[n])]
    assert changed and all(n.startswith("synthesis") and not n.endswith("bias") for n in changed)
    assert checkpoint.metadata["source"] == name and checkpoint.metadata["license"] == "CC0"
    assert checkpoint.metadata.get("crop") == metadata.get("crop")
    size = (32, 24) if metadata else (32, 32)
    assert {picture.size for node in ("before", "after") for picture in pictures(host, run, node)} == {size}
    assert "train" in dict(run.previews)
