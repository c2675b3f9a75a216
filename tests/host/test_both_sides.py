"""A prompt, a LoRA and a checkpoint mean on the command line what they mean in ComfyUI."""

import json
import random

import pytest
import torch
from comfyui_stylegan_fusion.miniature import WEIGHTS
from comfyui_stylegan_fusion.miniature.factors import sample_factors
from comfyui_stylegan_fusion.miniature.lora import GOLDEN_STATUE
from comfyui_stylegan_fusion.miniature.renderer import render
from comfyui_stylegan_fusion.sds.priors.diffusers import DiffusersPrior, StableDiffusion
from comfyui_stylegan_fusion.sds.priors.ldm_names import exchanged, unet_config, unet_prefixes
from comfyui_stylegan_fusion.sds.priors.lora import LoRA
from comfyui_stylegan_fusion.sds.priors.prompts import chunks
from comfyui_stylegan_fusion.sds.priors.text_encoders import TextEncoder, clip_tokenizer
from lora_files import LAYOUTS, write_layouts
from safetensors.torch import load_file, save_file

pytest.importorskip("diffusers", reason="the extra 'headless' is not installed")

T, SCALE = 0.6, 7.5
LONG = (
    "a (portrait:1.3) of a ((smiling)) fox with (green eyes, white fur and a very long name that goes on:0.6), "
    "before a (blue (and red:1.4) wall) \\(at noon\\), (old:-0.5) "
    + ", ".join(f"a {word} robot with a hat" for word in ("red", "green", "blue", "grey", "gold"))
    + ", (smiling, with glasses, in the evening, on a wall of bricks)"
)
PROMPTS = {
    "plain": ("a portrait of a fox, smiling", "a person"),
    "weighted": ("a (portrait:0.2) of a (fox:5), (smiling:4)", "a (person:-3)"),
    "long": (LONG, "a (person:1.2)"),
    "both long": (LONG, "a person, " * 60),
    "empty": ("a robot", ""),
}
NAMED = (  # by embeddings: short and long, weighted, broken where a chunk ends, between words and commas
    "embedding:painter, a (fox by embedding:crowd.pt, smiling:1.4) embedding:painter and "
    + "a hat, " * 20
    + "(embedding:crowd:0.6) robot",
    "a person embedding:painter",
)
FULL = ("SD 1.5", "SD 2.1", "SDXL", "SSD-1B", "Segmind Vega", "KOALA 700M", "KOALA 1B")
FAMILIES = ("SD1", "SD2", "SD2 v", "SDXL", "SDXL v")


def strange_texts(count=300):
    """Texts with parentheses, colons and numbers in all orders, short and long."""
    dice = random.Random(0)
    bits = ["(", ")", ":", "1.2", "0.5)", "\\(", "\\)", "fox", " ", "a red wall, ", "(old:1.3)", "supercalifragilistic"]
    bits += ["ünïcode 狐 ", ": ", "((", "))", "\n", "one two three four five six seven eight nine, "]
    return ["".join(dice.choices(bits, k=dice.randint(0, 60))) for _ in range(count)]


@pytest.fixture(scope="module")
def given():
    generator = torch.Generator().manual_seed(0)
    return {"images": render(sample_factors(2, generator)), "z_t": torch.randn(2, 4, 16, 16, generator=generator)}


@pytest.fixture(scope="module")
def folder(given, tmp_path_factory, run_in_host):
    place = tmp_path_factory.mktemp("both")
    save_file(given, place / "given.safetensors")
    miniature = StableDiffusion.load(WEIGHTS / "diffusion")
    loras = {name: (str(path), 0.7) for name, path in write_layouts(miniature, place).items()}
    loras["golden statue"] = (str(GOLDEN_STATUE), 1.0)
    vectors = torch.randn(4, 12, 64, generator=torch.Generator().manual_seed(1)) * 0.1
    (place / "embeddings").mkdir()
    torch.save({"string_to_param": {"*": vectors[0]}, "name": "crowd", "step": 9}, place / "embeddings" / "crowd.pt")
    # SDXL's second encoder has no use for these.
    painter = {"clip_l": vectors[1, :3], "clip_h": vectors[2, :3], "clip_g": torch.zeros(3, 80)}
    save_file(painter, place / "embeddings" / "painter.safetensors")
    request = {
        "named": NAMED,
        "prompts": PROMPTS,
        "loras": loras,
        "t": T,
        "guidance_scale": SCALE,
        "texts": strange_texts(),
    }
    run_in_host("both_sides_in_host.py", place, json.dumps(request))
    return place


@pytest.fixture(scope="module")
def in_host(folder):
    return load_file(folder / "found.safetensors")


def off(a, b):
    return ((a - b).norm() / b.norm()).item()


def check(in_host, name, prior, given, side=16):
    """Compare everything that the host found under a name with a prior."""
    z_t = given["z_t"][:, :, :side, :side]
    for number, condition in enumerate(("unconditional", "text")):
        assert off(in_host[f"{name} states of {condition}"], prior._states[number]) < 1e-4
        if prior._pooled[number] is not None:
            assert off(in_host[f"{name} pooled of {condition}"], prior._pooled[number]) < 1e-4
    assert in_host[f"{name} schedule"].tolist() == pytest.approx(prior.schedule(T), rel=1e-5)
    assert off(in_host[f"{name} z"], prior.encode(given["images"])) < 1e-4
    conditions = prior.conditions(z_t, T)
    for condition, eps in conditions.items():
        assert off(in_host[f"{name} eps of {condition}"], eps) < 1e-4, condition
    assert off(in_host[f"{name} guided"], prior.guided(z_t, T)) < 1e-4
    assert off(conditions["text"], conditions["unconditional"]) > 1e-3  # agreement means something


@pytest.mark.parametrize("name", PROMPTS)
def test_one_prompt_means_the_same_on_both_sides(in_host, given, name):
    check(in_host, name, DiffusersPrior(StableDiffusion.load(WEIGHTS / "diffusion"), *PROMPTS[name], SCALE), given)


def test_the_long_prompt_takes_several_chunks_and_its_weights_count(in_host):
    assert len(in_host["long states of text"]) == 77 * 2 and len(in_host["long states of unconditional"]) == 77
    assert off(in_host["weighted states of text"], in_host["plain states of text"]) > 0.02
    assert off(in_host["weighted guided"], in_host["plain guided"]) > 2e-3  # 20 times what both sides may differ by


def test_parentheses_colons_and_numbers_are_read_alike(folder):
    encoder = TextEncoder(None, clip_tokenizer())
    said = json.loads((folder / "tokens.json").read_text())
    assert len(said) > 250
    for text, theirs in said.items():
        ours = chunks(text, lambda words: encoder.tokenizer(words).input_ids[1:-1], encoder.marks, 77)
        assert ours == [[tuple(token) for token in chunk] for chunk in theirs], text


@pytest.mark.parametrize("name", [*LAYOUTS, "golden statue"])
def test_a_lora_changes_both_sides_alike(in_host, folder, given, name):
    lora = LoRA(GOLDEN_STATUE, 1.0) if name == "golden statue" else LoRA(folder / f"{name}.safetensors", 0.7)
    model = StableDiffusion.load(WEIGHTS / "diffusion", loras=[lora])
    check(in_host, name, DiffusersPrior(model, *PROMPTS["plain"], SCALE), given)
    assert off(in_host[f"{name} guided"], in_host["plain guided"]) > 1e-3


@pytest.mark.parametrize("name", FAMILIES)
def test_a_checkpoint_that_comfyui_writes_is_the_same_model_here(in_host, folder, given, name):
    model = StableDiffusion.load(folder / f"{name}.safetensors")
    assert model.scheduler.config.prediction_type == ("v_prediction" if name.endswith("v") else "epsilon")
    prior = DiffusersPrior(model, *PROMPTS["long"], SCALE, image_size=64)
    check(in_host, name, prior, given, side=8)


@pytest.mark.parametrize("name", FAMILIES)
def test_embeddings_mean_the_same_on_both_sides(in_host, folder, given, name):
    files = [folder / "embeddings" / file for file in ("crowd.pt", "painter.safetensors")]
    model = StableDiffusion.load(folder / f"{name}.safetensors", embeddings=files)
    check(in_host, f"{name} named", DiffusersPrior(model, *NAMED, SCALE, image_size=64), given, side=8)


@pytest.mark.parametrize("name", FULL)
def test_unets_of_full_size_are_described_by_their_weights(folder, name):
    """From the sizes of the host's own classes to the same ones of diffusers', without one number of a weight."""
    from diffusers import UNet2DConditionModel

    sizes = json.loads((folder / "sizes.json").read_text())[name]
    with torch.device("meta"):
        weights = {weight: torch.empty(size) for weight, size in sizes.items()}
        unet = UNet2DConditionModel.from_config(unet_config(weights))
    own = {theirs: ours for ours, theirs in unet_prefixes(unet).items()}
    ours = {weight: value.numel() for weight, value in unet.state_dict().items()}
    assert {exchanged(weight, own): value.numel() for weight, value in weights.items()} == ours
