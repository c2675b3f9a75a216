"""Diffusion models from folders and single files: what is read, and the sentence for each fault."""

import json
import shutil

import pytest
import torch
from comfyui_stylegan_fusion.sds.priors.diffusers import DiffusersPrior, StableDiffusion
from comfyui_stylegan_fusion.sds.priors.ldm_names import exchanged, vae_prefixes
from comfyui_stylegan_fusion.sds.priors.lora import LoRA, apply_loras, load_loras
from lora_files import ATTENTION, OUT, Layers, kohya, write
from safetensors.torch import load_file, save_file
from tiny_diffusion import make_vae, single_file_weights, write_folder, write_single_file

pytest.importorskip("diffusers", reason="the extra 'headless' is not installed")
pytest.importorskip("transformers", reason="the extra 'headless' is not installed")

WEIGHTS = {
    "unet": "unet/diffusion_pytorch_model.safetensors",
    "vae": "vae/diffusion_pytorch_model.safetensors",
    "text_encoder": "text_encoder/model.safetensors",
    "text_encoder_2": "text_encoder_2/model.safetensors",
}
SPOKEN = {"unet": "UNet", "vae": "VAE", "text_encoder": "text encoder", "text_encoder_2": "second text encoder"}
CONFIGS = [f"{part}/config.json" for part in WEIGHTS] + ["model_index.json", "scheduler/scheduler_config.json"]


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("tiny"), two=True)


@pytest.fixture
def folder(original, tmp_path):
    """A model of two text encoders that a test may change."""
    return shutil.copytree(original, tmp_path / "model")


@pytest.fixture(scope="module")
def single():
    return single_file_weights()


def refused(path, *sentences, **options):
    with pytest.raises((ValueError, FileNotFoundError)) as raised:
        StableDiffusion.load(path, **options)
    said = str(raised.value)
    assert all(sentence in said for sentence in sentences), said
    assert said.endswith(".") and "\n" not in said
    return said


def change(path, edit):
    weights = load_file(path)
    edit(weights)
    save_file(weights, path)


@pytest.mark.parametrize("part", WEIGHTS)
def test_weights_that_are_missing_renamed_resized_or_not_finite_are_named(folder, part):
    path = folder / WEIGHTS[part]
    whole = path.read_bytes()
    name = sorted(load_file(path))[3]
    place = f"The {SPOKEN[part]} in {folder / part}"

    change(path, lambda weights: weights.pop(name))
    refused(folder, f"{place} is incomplete: ", name.removeprefix("text_model."), "of its weights are missing")
    path.write_bytes(whole)
    change(path, lambda weights: weights.update({"renamed.weight": weights.pop(name)}))
    refused(folder, f"{place} is incomplete: ", name.removeprefix("text_model."))
    path.write_bytes(whole)
    change(path, lambda weights: weights.update({"more.weight": torch.zeros(3)}))
    refused(folder, f"{place} holds weights that its kind does not have: more.weight")
    path.write_bytes(whole)
    change(path, lambda weights: weights.update({name: torch.zeros(5, 7)}))
    refused(folder, f"{place} does not fit its description: ", "is of size 5 x 7, not ")
    path.write_bytes(whole)
    change(path, lambda weights: weights[name].view(-1)[:1].fill_(float("nan")))
    refused(folder, f"{place} is damaged: ", "holds numbers that are not finite")


@pytest.mark.parametrize("part", WEIGHTS)
def test_files_of_weights_that_are_damaged_pickled_or_gone_are_named(folder, part):
    path = folder / WEIGHTS[part]
    whole = path.read_bytes()
    for content, sentence in (
        (whole[:1000], "is damaged or incomplete"),
        (whole[:-10], "is damaged or incomplete"),
        (b"", "is empty"),
        (b"<!doctype html><html>not found</html>", "is no safetensors file"),
        (b"PK\x03\x04 and more of an archive", "is a pickle, which could hold a program"),
    ):
        path.write_bytes(content)
        refused(folder, str(path), sentence)
    path.unlink()
    refused(folder, str(folder / part), "holds no weights")
    path.with_suffix(".bin").write_bytes(b"PK")
    refused(folder, str(folder / part), f"holds only {path.stem}.bin, a pickle")


@pytest.mark.parametrize("name", CONFIGS)
def test_descriptions_that_cannot_be_read_are_named(folder, name):
    path = folder / name
    whole = path.read_bytes()
    for content, sentence in (
        (b"[]", "holds no JSON object"),
        (b"{", "is not valid JSON"),
        (b"", "is not valid JSON"),
        (b"[" * 100_000, "is not valid JSON"),
        ("ü".encode("latin-1"), "is not text in UTF-8"),
        (whole.decode().encode("utf-16"), "is not text in UTF-8"),
    ):
        path.write_bytes(content)
        refused(folder, str(path), sentence)
    path.write_bytes(b"\xef\xbb\xbf" + whole)  # with a byte order mark, as editors on Windows write it
    StableDiffusion.load(folder)
    path.unlink()
    refused(folder, name)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "text_encoder_2"])
def test_descriptions_of_something_else_are_named(folder, part):
    path = folder / part / "config.json"
    path.write_text('{"block_out_channels": "many", "hidden_size": "wide", "num_attention_heads": 0}')
    refused(folder, f"The description of the {SPOKEN[part]} in {folder / part} cannot be read")
    path.write_text(json.dumps({"hidden_size": 16}))  # of another size
    refused(folder, f"The {SPOKEN[part]} in {folder / part}")


@pytest.mark.parametrize("part", [*WEIGHTS, "tokenizer", "tokenizer_2", "scheduler"])
def test_a_part_that_is_missing_is_named(folder, part):
    shutil.rmtree(folder / part)
    refused(folder, f"{folder} has no folder {part}.")


@pytest.mark.parametrize("part", ["tokenizer", "tokenizer_2"])
def test_tokenizers_that_do_not_work_are_named(folder, part):
    place = folder / part
    for name, content in (("vocab.json", b"[]"), ("vocab.json", b"\xff"), ("merges.txt", b"\xff\xfe\x00")):
        whole = (place / name).read_bytes()
        (place / name).write_bytes(content)
        refused(folder, f"The tokenizer in {place} cannot be read")
        (place / name).write_bytes(whole)
    vocabulary = json.loads((place / "vocab.json").read_text())
    (place / "vocab.json").write_text(json.dumps({**vocabulary, "much": 10_000}))
    refused(folder, f"The tokenizer in {place} has 10001 tokens")
    (place / "merges.txt").unlink()
    refused(folder, f"There is no file {place / 'merges.txt'}")


def test_a_schedule_without_timesteps_is_refused(folder):
    path = folder / "scheduler/scheduler_config.json"
    path.write_text(json.dumps({"_class_name": "EDMEulerScheduler"}))
    refused(folder, "has the schedule of a EDMEulerScheduler", "use this model in ComfyUI")


def unet_weights(model):
    return model.unet.state_dict()


def test_weights_in_half_precision_and_in_several_files_are_read(folder):
    path, whole = folder / WEIGHTS["unet"], load_file(folder / WEIGHTS["unet"])
    save_file({name: value.half() for name, value in whole.items()}, path.with_suffix(".fp16.safetensors"))
    full = unet_weights(StableDiffusion.load(folder))
    assert all(torch.equal(full[name], value) for name, value in whole.items())
    change(path.with_suffix(".fp16.safetensors"), lambda weights: weights["conv_in.bias"].fill_(2))
    assert unet_weights(StableDiffusion.load(folder, dtype=torch.float16))["conv_in.bias"].unique() == 2
    path.unlink()  # the only ones now
    assert unet_weights(StableDiffusion.load(folder))["conv_in.bias"].unique() == 2

    path.with_suffix(".fp16.safetensors").unlink()
    names = sorted(whole)
    index = {name: f"part-{number % 2}.safetensors" for number, name in enumerate(names)}
    for file in set(index.values()):
        save_file({name: whole[name] for name in names if index[name] == file}, path.with_name(file))
    path.with_name(f"{path.name}.index.json").write_text(json.dumps({"weight_map": index}))
    found = unet_weights(StableDiffusion.load(folder))
    assert all(torch.equal(found[name], value) for name, value in whole.items())
    path.with_name("part-1.safetensors").unlink()
    refused(folder, "part-1.safetensors, which diffusion_pytorch_model.safetensors.index.json names")
    path.with_name(f"{path.name}.index.json").write_text(json.dumps({"weight_map": {"a": "../../secret"}}))
    refused(folder, "names a file outside of its folder, ../../secret")


def test_attention_of_old_autoencoders_is_read(folder):
    before = StableDiffusion.load(folder).vae.state_dict()
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def rename(weights):
        for name in list(weights):
            for new, theirs in old.items():
                if f".{new}." in name:
                    weights[name.replace(f".{new}.", f".{theirs}.")] = weights.pop(name)

    change(folder / WEIGHTS["vae"], rename)
    after = StableDiffusion.load(folder).vae.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_a_checkpoint_in_one_file_is_read_with_nothing_beside_it(single, tmp_path):
    path = write_single_file(tmp_path / "model.safetensors", single)
    model = StableDiffusion.load(path)
    assert model.unet.config.sample_size == 64 and model.vae.config.scaling_factor == 0.18215
    assert model.tokenizer("a Fox").input_ids == [49406, 320, 3240, 49407]
    assert (
        model.unet.state_dict()["conv_in.bias"].tolist()
        == single["model.diffusion_model.input_blocks.0.0.bias"].tolist()
    )
    prior = DiffusersPrior(model, "a (fox:1.2)", image_size=16)
    assert torch.isfinite(prior.guided(torch.randn(1, 4, 8, 8), 0.5)).all()


def test_what_a_file_says_and_what_its_user_says_of_the_prediction_counts(single, tmp_path):
    path = tmp_path / "model.safetensors"

    def predicts(weights, metadata=None, **options):
        write_single_file(path, weights, metadata)
        return StableDiffusion.load(path, **options).scheduler.config.prediction_type

    assert predicts(single) == "epsilon"
    assert predicts(single | {"v_pred": torch.zeros(0)}) == "v_prediction"
    assert predicts(single, {"modelspec.prediction_type": "v"}) == "v_prediction"
    assert predicts(single, prediction="v_prediction") == "v_prediction"


def without(weights, *prefixes):
    return {name: value for name, value in weights.items() if not name.startswith(prefixes)}


def test_single_files_with_faults_are_named(single, tmp_path):
    path = tmp_path / "model.safetensors"
    unet, vae, text = "model.diffusion_model.", "first_stage_model.", "cond_stage_model."
    layer = f"{text}transformer.text_model.encoder.layers.0.mlp.fc2.weight"
    cases = [
        (without(single, vae), "holds no VAE"),
        (without(single, text), "holds no text encoder"),
        (without(single, vae, text), "holds no text encoder and no VAE"),
        (without(single, f"{unet}middle_block.0.in_layers.2"), "The UNet in", "conv1.bias and 1 others"),
        (without(single, f"{unet}input_blocks.0.0"), "The UNet in", "is incomplete, or of another kind"),
        (without(single, f"{vae}encoder.mid.attn_1.q"), "The VAE in", "attentions.0.to_q"),
        (without(single, layer), "The text encoder in", "mlp.fc2.weight of its weights are missing"),
        (single | {f"{unet}more.weight": torch.zeros(2)}, "weights that its kind does not have: more.weight"),
        (single | {layer: torch.full_like(single[layer], torch.inf)}, "numbers that are not finite"),
        (single | {f"{unet}label_emb.0.0.weight": torch.zeros(2, 2)}, "refiner or an unCLIP model"),
        (single | {"edm_mean": torch.zeros(1)}, "EDM's noise levels"),
        ({name.removeprefix(unet): value for name, value in single.items()}, "a UNet alone"),
        ({"lora_unet_mid.lora_up.weight": torch.zeros(2, 2)}, "a LoRA, which belongs behind --lora"),
        ({"double_blocks.0.img_attn.qkv.weight": torch.zeros(2, 2)}, "another family, such as Flux"),
        ({"decoder.up.0.block.0.conv1.weight": torch.zeros(2, 2)}, "a VAE alone"),
        ({"something": torch.zeros(2)}, "no diffusion model"),
    ]
    for weights, *sentences in cases:
        assert str(path) in refused(write_single_file(path, weights), *sentences)
    for content, sentence in (
        (b"", "is empty"),
        (b"\x80\x04pickle.", "is a pickle"),
        (b"GIF89a....", "no safetensors"),
    ):
        path.write_bytes(content)
        refused(path, str(path), sentence)
    refused(tmp_path / "absent.safetensors", "There is no file")


def test_another_vae_is_read_from_every_layout(folder, tmp_path):
    """The names of the first programs, alone and in a whole checkpoint, and those of diffusers, as file and as folder."""
    model = StableDiffusion.load(folder)
    torch.manual_seed(5)
    other, images = make_vae(16, 8, scaling_factor=3.0), torch.rand(1, 3, 16, 16)
    ldm = {exchanged(name, vae_prefixes(other)): value for name, value in other.state_dict().items()}
    other.save_pretrained(tmp_path / "vae")
    files = {
        "ldm": ldm | {"model_ema.decay": torch.zeros(1)},
        "whole": {f"first_stage_model.{name}": value for name, value in ldm.items()} | {"else": torch.zeros(1)},
        "diffusers": other.state_dict(),
    }
    for name, weights in files.items():
        write_single_file(tmp_path / f"{name}.safetensors", weights)
    expected = (other.eval().encode(images).latent_dist.mode() - 0.1) * 0.6  # latents as the model knows them
    for place in (*(tmp_path / f"{name}.safetensors" for name in files), tmp_path / "vae"):
        with_other = StableDiffusion.load(folder, vae=place)
        torch.testing.assert_close(DiffusersPrior(with_other, "a fox").encode(images), expected)
        assert model.unet.state_dict().keys() == with_other.unet.state_dict().keys()


def test_a_vae_that_cannot_take_the_place_is_named(folder, tmp_path):
    path = tmp_path / "vae.safetensors"
    other = make_vae(16, 8, latent_channels=16).state_dict()
    refused(folder, str(path), "latents of 16 channels", "reads 4", vae=write_single_file(path, other))
    refused(folder, "incomplete", vae=write_single_file(path, without(other, "decoder.mid_block")))
    refused(folder, str(path), "holds no VAE", vae=write_single_file(path, {"something": torch.zeros(2)}))
    refused(folder, str(tmp_path / "config.json"), vae=tmp_path)


VECTORS = torch.linspace(-1, 1, 3 * 64).reshape(3, 64)
EMBEDDINGS = {  # what files of textual inversion hold, and by which ending they go
    "web interface": (
        {"string_to_token": {"*": 265}, "string_to_param": {"*": VECTORS}, "name": "x", "step": 5},
        ".pt",
    ),
    "its first layout": ({"string_to_param": torch.nn.ParameterDict({"*": torch.nn.Parameter(VECTORS)})}, ".pt"),
    "list": ([{"<x>": VECTORS}, {"other": torch.zeros(2, 32)}], ".pt"),
    "diffusers": ({"<x>": VECTORS}, ".bin"),
    "safetensors": ({"emb_params": VECTORS}, ".safetensors"),
    "in half precision": ({"emb_params": VECTORS.half()}, ".safetensors"),
    "of two encoders": ({"clip_g": torch.zeros(3, 80), "clip_l": VECTORS}, ".safetensors"),
    "bundled": ({"bundle_emb.x.string_to_param.*": VECTORS}, ".safetensors"),
}


def write_embedding(path, content):
    save_file(content, path) if path.suffix == ".safetensors" else torch.save(content, path)
    return path


@pytest.mark.parametrize("name", EMBEDDINGS)
def test_an_embedding_stands_in_the_place_of_words(single, tmp_path, name):
    content, ending = EMBEDDINGS[name]
    path = write_embedding(tmp_path / f"painter{ending}", content)
    model = StableDiffusion.load(write_single_file(tmp_path / "model.safetensors", single), embeddings=[path])
    (encoder,) = model.texts
    states, _ = encoder.encode("a fox, embedding:painter, red")
    table = encoder.model.get_input_embeddings().weight
    fox, red = (encoder.tokenizer(text).input_ids[1:-1] for text in ("a fox,", ", red"))  # no comma is of the name
    with torch.no_grad():  # the same by words whose vectors were changed
        table[[500, 501, 502]] = VECTORS.to(table)
    words = [49406, *fox, 500, 501, 502, *red]
    tokens = torch.tensor([words + [49407] * (77 - len(words))])
    tolerance = 1e-2 if "half" in name else 1e-5
    torch.testing.assert_close(states, encoder.model(tokens).last_hidden_state[0], atol=tolerance, rtol=tolerance)
    for ending in ("painter", path.name):
        assert torch.equal(
            encoder.encode(f"(embedding:{ending}:1.3) fox")[0], encoder.encode("(embedding:painter:1.3) fox")[0]
        )


def test_embeddings_that_cannot_be_used_are_named(single, tmp_path):
    model, path = write_single_file(tmp_path / "model.safetensors", single), tmp_path / "painter.safetensors"
    for content, *sentences in (
        ({"emb_params": torch.zeros(2, 1024)}, "vectors of another width than the tokens of the model (64)"),
        ({"emb_params": torch.full((2, 64), torch.nan)}, "not finite"),
        ({"a": torch.zeros(2, 64), "b": torch.zeros(2, 64)}, "holds no embedding"),
        ({"emb_params": torch.zeros(2, 64, 1, 1)}, "holds no embedding"),
    ):
        refused(model, str(path), *sentences, embeddings=[write_embedding(path, content)])
    other = write_embedding(tmp_path / "painter.pt", {"<x>": VECTORS})
    refused(model, "are called 'painter'", embeddings=[write_embedding(path, {"<x>": VECTORS}), other])
    (encoder,) = StableDiffusion.load(model, embeddings=[other]).texts
    with pytest.raises(ValueError, match="the embedding 'paint', which is not there"):
        encoder.encode("a fox by embedding:paint")


def test_layouts_of_loras_say_the_same(folder, tmp_path):
    """The same matrices change the same weights, however they are named and whoever notes alpha."""
    model = StableDiffusion.load(folder)
    layers = Layers(model)
    (up, down), (out_up, out_down) = layers.pair(ATTENTION), layers.pair(OUT)
    pairs = {ATTENTION: (up, down), OUT: (out_up, out_down)}
    flat = {name: f"lora_unet_{name.replace('.', '_')}" for name in pairs}
    alpha = {f"{flat[name]}.alpha": torch.tensor(8.0) for name in pairs}
    adapter = {"lora_adapter_metadata": json.dumps({"unet.r": 4, "unet.lora_alpha": 8})}
    square = {"lora_adapter_metadata": json.dumps({"unet.r": 4, "unet.lora_alpha": 4, "unet.use_rslora": True})}

    def named(up_end, down_end, name_of):
        return {
            f"{name_of(name)}{end}": value
            for name, pair in pairs.items()
            for end, value in zip((up_end, down_end), pair, strict=True)
        }

    files = [
        (named(".lora_up.weight", ".lora_down.weight", flat.get) | alpha, None),
        (named(".lora_B.weight", ".lora_A.weight", lambda name: f"unet.{name}"), adapter),
        (named(".lora_B.default.weight", ".lora_A.default.weight", lambda name: f"unet.{name}"), square),
        (named(".lora.up.weight", ".lora.down.weight", lambda name: f"unet.{name}"), adapter),
    ]
    found = []
    for number, (tensors, metadata) in enumerate(files):
        path = write(tensors, tmp_path / f"{number}.safetensors", metadata)
        found.append(StableDiffusion.load(folder, loras=[LoRA(path, 0.5)]).unet.state_dict())
    trained = tmp_path / "trained"  # a folder of peft
    trained.mkdir()
    peft_names = named(".lora_B.weight", ".lora_A.weight", lambda name: f"base_model.model.{name}")
    write(peft_names, trained / "adapter_model.safetensors")
    (trained / "adapter_config.json").write_text(json.dumps({"r": 4, "lora_alpha": 8}))
    found.append(StableDiffusion.load(folder, loras=[LoRA(trained, 0.5)]).unet.state_dict())
    before = model.unet.state_dict()
    moved = before[f"{ATTENTION}.weight"] + 0.5 * 2 * up @ down
    for weights in found:
        torch.testing.assert_close(weights[f"{ATTENTION}.weight"], moved)
        torch.testing.assert_close(weights[f"{OUT}.weight"], found[0][f"{OUT}.weight"])
        assert torch.equal(weights["conv_in.weight"], before["conv_in.weight"])


def test_several_loras_add_up_and_a_strength_below_zero_takes_one_back(folder, tmp_path):
    before = StableDiffusion.load(folder)
    path = write(kohya(Layers(before)), tmp_path / "kohya.safetensors")
    both = StableDiffusion.load(folder, loras=[LoRA(path, 1.5), LoRA(path, -1.5)])
    once, twice = (StableDiffusion.load(folder, loras=loras) for loras in ([LoRA(path, 2.0)], [LoRA(path)] * 2))
    for part in ("unet", "text_encoder"):
        states = [getattr(model, part).state_dict() for model in (before, both, once, twice)]
        for name, value in states[0].items():
            torch.testing.assert_close(states[1][name], value, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(states[2][name], states[3][name], atol=1e-5, rtol=1e-5)
    assert not torch.equal(once.unet.state_dict()[f"{OUT}.weight"], before.unet.state_dict()[f"{OUT}.weight"])


@pytest.mark.parametrize(
    "text, file, strength",
    [
        ("a.safetensors", "a.safetensors", 1.0),
        ("a.safetensors:0.8", "a.safetensors", 0.8),
        ("C:\\loras\\a.safetensors", "C:\\loras\\a.safetensors", 1.0),
        ("C:\\loras\\a.safetensors:-1", "C:\\loras\\a.safetensors", -1.0),
        ("a:b.safetensors", "a:b.safetensors", 1.0),
    ],
)
def test_a_strength_stands_behind_the_last_colon(text, file, strength):
    lora = LoRA.parse(text)
    assert (str(lora.path), lora.strength) == (file, strength)


def test_loras_that_cannot_be_applied_are_named(folder, tmp_path):
    path, layers = tmp_path / "lora.safetensors", Layers(StableDiffusion.load(folder))
    good = kohya(layers)
    name = f"lora_unet_{ATTENTION.replace('.', '_')}"
    wide = {f"{name}.lora_up.weight": torch.zeros(320, 4), f"{name}.lora_down.weight": torch.zeros(4, 320)}
    elsewhere = {key.replace("attn1", "attn7"): value for key, value in good.items()}
    cases = [
        (wide, None, "is a LoRA for another model: its change of", "does not fit a weight of 16 x 16"),
        (elsewhere, None, "is a LoRA for another model: it changes", "attn7"),
        (without(good, f"{name}.lora_up"), None, f"is incomplete: of {name} it holds alpha and down alone"),
        (good | {f"{name}.oft_blocks": torch.zeros(2)}, None, "which this program cannot apply"),
        ({"conv_in.weight": torch.zeros(2)}, None, "is no LoRA"),
        (good | {f"{name}.lora_up.weight": torch.full((16, 4), torch.nan)}, None, "numbers that are not finite"),
    ]
    for tensors, metadata, *sentences in cases:
        write(tensors, path, metadata)
        assert str(path) in refused(folder, *sentences, loras=[LoRA(path)])
    for content, sentence in (
        (b"", "is empty"),
        (b"PK\x03\x04......", "is a pickle"),
        (b"%PDF-1.7 ...", "no safetensors"),
    ):
        path.write_bytes(content)
        refused(folder, str(path), sentence, loras=[LoRA(path)])
    refused(folder, "There is no file", loras=[LoRA(tmp_path / "absent.safetensors")])
    refused(folder, "holds neither", loras=[LoRA(tmp_path)])


def test_a_lora_that_says_that_it_is_for_another_family_is_refused(single, tmp_path):
    model = StableDiffusion.load(write_single_file(tmp_path / "model.safetensors", single))
    lora = write(kohya(Layers(model)), tmp_path / "lora.safetensors", {"ss_base_model_version": "sdxl_base_v1-0"})
    with pytest.raises(ValueError, match=r"is a LoRA for SDXL, as it says itself \(sdxl_base_v1-0\)"):
        apply_loras(load_loras([LoRA(lora)]), model.unet, [model.text_encoder], "Stable Diffusion 1.x")
