"""The diffusers prior on a tiny Stable Diffusion with random weights, read from a folder."""

import json
import logging
import shutil

import pytest
import torch
from comfyui_stylegan_fusion.sds.priors.diffusers import DiffusersPrior, ExtraPrompt, StableDiffusion

pytest.importorskip("diffusers", reason="the extra 'headless' is not installed")
pytest.importorskip("transformers", reason="the extra 'headless' is not installed")

ALPHA_BAR = (1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2).cumprod(0)


def write_scheduler(folder, **changes):
    from diffusers import PNDMScheduler

    scheduler = PNDMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", **changes)
    scheduler.save_pretrained(folder / "scheduler")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    root = tmp_path_factory.mktemp("tiny-sd")
    words = ["a</w>", "fox</w>", "robot</w>", *"abcdefghijklmnopqrstuvwxyz", *[f"{c}</w>" for c in "bcfortx"]]
    vocabulary = [*words, "fo", "<|startoftext|>", "<|endoftext|>"]
    (root / "tokenizer").mkdir()
    (root / "tokenizer/vocab.json").write_text(json.dumps({word: i for i, word in enumerate(vocabulary)}))
    (root / "tokenizer/merges.txt").write_text("#version: 0.2\nf o\nfo x</w>\n")
    options = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    options |= {"pad_token": "<|endoftext|>", "model_max_length": 77, "tokenizer_class": "CLIPTokenizer"}
    (root / "tokenizer/tokenizer_config.json").write_text(json.dumps(options))

    torch.manual_seed(0)
    end = len(vocabulary) - 1
    text = CLIPTextConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        bos_token_id=end - 1,
        eos_token_id=end,
        pad_token_id=end,
    )
    CLIPTextModel(text).save_pretrained(root / "text_encoder")
    blocks = {"block_out_channels": (16, 16), "layers_per_block": 1, "norm_num_groups": 8}
    AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
        scaling_factor=0.6,
        shift_factor=0.1,
        **blocks,
    ).save_pretrained(root / "vae")
    UNet2DConditionModel(
        sample_size=8,
        down_block_types=["CrossAttnDownBlock2D", "DownBlock2D"],
        up_block_types=["UpBlock2D", "CrossAttnUpBlock2D"],
        cross_attention_dim=16,
        attention_head_dim=2,
        **blocks,
    ).save_pretrained(root / "unet")
    write_scheduler(root)
    index = {"_class_name": "StableDiffusionPipeline", "scheduler": ["diffusers", "PNDMScheduler"]}
    index |= {"vae": ["diffusers", "AutoencoderKL"], "unet": ["diffusers", "UNet2DConditionModel"]}
    index |= {"text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"]}
    (root / "model_index.json").write_text(json.dumps(index))
    return root


@pytest.fixture(scope="module")
def model(folder):
    return StableDiffusion.load(folder)


@pytest.fixture
def prior(model):
    return DiffusersPrior(model, "a fox", negative_prompt="robot", guidance_scale=7.5)


@pytest.fixture
def own_folder(folder, tmp_path):
    """A copy that a test may change."""
    return shutil.copytree(folder, tmp_path / "model")


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def unet_alone(model, z_t, index, text):
    """The UNet's output for one prompt, with the prompt encoded by hand."""
    ids = [model.tokenizer.bos_token_id, *model.tokenizer(text).input_ids[1:-1]]
    ids += [model.tokenizer.eos_token_id] * (77 - len(ids))
    with torch.no_grad():
        states = model.text_encoder(torch.tensor([ids])).last_hidden_state
        return model.unet(z_t, index, states.expand(len(z_t), -1, -1)).sample


def test_every_condition_is_the_unets_prediction_of_its_prompt(model, prior):
    z_t = normal(3, 4, 8, 8)
    eps = prior.conditions(z_t, 0.3)
    assert list(eps) == ["unconditional", "text"]
    torch.testing.assert_close(eps["unconditional"], unet_alone(model, z_t, 300, "robot"), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(eps["text"], unet_alone(model, z_t, 300, "a fox"), rtol=1e-4, atol=1e-5)
    assert (eps["text"] - eps["unconditional"]).abs().max() > 1e-3  # the prompts matter


def test_guided_follows_equation_4_in_one_call_of_the_unet(model, prior):
    z_t, rows = normal(3, 4, 8, 8), []
    hook = model.unet.register_forward_pre_hook(lambda module, arguments: rows.append(len(arguments[0])))
    guided = prior.guided(z_t, 0.3)
    hook.remove()
    assert rows == [6]
    u, text = unet_alone(model, z_t, 300, "robot"), unet_alone(model, z_t, 300, "a fox")
    torch.testing.assert_close(guided, u + 7.5 * (text - u), rtol=1e-3, atol=1e-4)
    assert not guided.requires_grad


def test_extra_prompts_join_the_sum_with_scales_of_their_own(model):
    z_t = normal(2, 4, 8, 8)
    extra = [ExtraPrompt("hat", "a hat", 3.0), ExtraPrompt("robot", "robot", -1.0)]
    prior = DiffusersPrior(model, "a fox", guidance_scale=7.5, extra_prompts=extra)
    assert list(prior.conditions(z_t, 0.3)) == ["unconditional", "text", "hat", "robot"]
    u, text, hat, robot = (unet_alone(model, z_t, 300, prompt) for prompt in ("", "a fox", "a hat", "robot"))
    expected = u + 7.5 * (text - u) + 3 * (hat - u) - (robot - u)
    torch.testing.assert_close(prior.guided(z_t, 0.3), expected, rtol=1e-3, atol=1e-4)
    halved = u + 0.5 * (expected - u)
    torch.testing.assert_close(prior.guided(z_t, 0.3, scaling=0.5), halved, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("names", [("hat", "hat"), ("text",), ("unconditional",)])
def test_predictions_of_one_name_are_refused(model, names):
    with pytest.raises(ValueError, match="Two predictions have one name"):
        DiffusersPrior(model, "a fox", extra_prompts=[ExtraPrompt(name, "a hat", 1.0) for name in names])


def test_recomputed_activations_give_the_same_gradient(prior):
    images = normal(1, 3, *[prior.image_size] * 2).clamp(-1, 1).requires_grad_()
    gradients = [torch.autograd.grad(prior.encode(images, again).sum(), images)[0] for again in (False, True, False)]
    assert torch.equal(gradients[0], gradients[1]) and torch.equal(gradients[0], gradients[2])


def test_the_empty_prompt_is_begin_end_and_padding(model):
    prior = DiffusersPrior(model, "fox")
    z_t = normal(1, 4, 8, 8)
    expected = unet_alone(model, z_t, 500, "")
    torch.testing.assert_close(prior.conditions(z_t, 0.5)["unconditional"], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("t", "index"), [(0.0, 0), (0.3, 300), (1.0, 999)])
def test_the_schedule_is_that_of_stable_diffusion(prior, t, index):
    alpha, sigma = prior.schedule(t)
    assert alpha**2 == pytest.approx(ALPHA_BAR[index].item(), rel=1e-4)
    assert alpha**2 + sigma**2 == pytest.approx(1)
    assert min(alpha, sigma) > 0


def test_encode_is_the_posteriors_mode_shifted_and_scaled_and_differentiable(model, prior):
    assert prior.image_size == 16
    images = normal(2, 3, 16, 16).clamp(-1, 1).requires_grad_()
    latents = prior.encode(images)
    with torch.no_grad():
        mean = model.vae.quant_conv(model.vae.encoder(images))[:, :4]
    torch.testing.assert_close(latents, (mean - 0.1) * 0.6)
    (gradient,) = torch.autograd.grad(latents.sum(), images)
    assert gradient.abs().max() > 0


def test_every_weight_is_frozen(model):
    parts = (model.vae, model.unet, model.text_encoder)
    assert not any(parameter.requires_grad for part in parts for parameter in part.parameters())


def test_velocity_models_give_the_same_clean_estimate_as_diffusers_own_scheduler(own_folder):
    from diffusers import DDIMScheduler

    write_scheduler(own_folder, prediction_type="v_prediction")
    model = StableDiffusion.load(own_folder)
    prior = DiffusersPrior(model, "a fox")
    z_t = normal(2, 4, 8, 8)
    eps = prior.conditions(z_t, 600 / 999)["text"]
    alpha, sigma = prior.schedule(600 / 999)
    scheduler = DDIMScheduler.from_pretrained(own_folder / "scheduler", clip_sample=False)
    scheduler.set_timesteps(1000)
    expected = scheduler.step(unet_alone(model, z_t, 600, "a fox"), 600, z_t).pred_original_sample
    torch.testing.assert_close((z_t - sigma * eps) / alpha, expected, rtol=1e-3, atol=1e-4)


def test_a_schedule_that_ends_in_pure_noise_keeps_its_last_timestep_out(own_folder):
    from diffusers import DDIMScheduler

    DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", rescale_betas_zero_snr=True
    ).save_pretrained(own_folder / "scheduler")
    prior = DiffusersPrior(StableDiffusion.load(own_folder), "a fox")
    assert prior.schedule(1.0)[0] > 0
    assert torch.isfinite(prior.guided(normal(1, 4, 8, 8), 1.0)).all()


def test_half_precision_is_for_the_unet_only(folder):
    prior = DiffusersPrior(StableDiffusion.load(folder, dtype=torch.bfloat16), "a fox")
    assert prior.guided(normal(1, 4, 8, 8), 0.5).dtype == torch.float32
    assert prior.encode(torch.zeros(1, 3, 16, 16)).dtype == torch.float32


def test_a_prompt_that_is_cut_is_logged(model, caplog):
    with caplog.at_level(logging.WARNING):
        DiffusersPrior(model, "a fox " * 50)
    assert "The prompt has 102 tokens and is cut to 77" in caplog.text


def test_what_is_not_a_model_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no model_index\.json"):
        StableDiffusion.load(tmp_path / "nothing")
    (tmp_path / "model_index.json").write_text("{")
    with pytest.raises(ValueError, match="is not valid JSON"):
        StableDiffusion.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"text_encoder_2": ["transformers", "CLIPTextModelWithProjection"]}, "it has a text_encoder_2"),
        (
            {"unet": None, "transformer": ["diffusers", "SD3Transformer2DModel"]},
            "unet is missing; it has a transformer",
        ),
        ({"text_encoder": ["transformers", "T5EncoderModel"]}, "text_encoder is T5EncoderModel"),
    ],
)
def test_models_of_other_families_are_refused_with_the_part_that_differs(own_folder, change, sentence):
    index = json.loads((own_folder / "model_index.json").read_text())
    (own_folder / "model_index.json").write_text(json.dumps({**index, **change}))
    with pytest.raises(ValueError, match=sentence):
        StableDiffusion.load(own_folder)


def test_an_inpainting_model_is_refused(own_folder):
    from diffusers import UNet2DConditionModel

    config = json.loads((own_folder / "unet/config.json").read_text())
    UNet2DConditionModel.from_config({**config, "in_channels": 9}).save_pretrained(own_folder / "unet")
    with pytest.raises(ValueError, match="takes 9 channels and the VAE makes 4"):
        DiffusersPrior(StableDiffusion.load(own_folder), "a fox")


def test_damaged_and_pickled_weights_are_refused(own_folder):
    weights = own_folder / "unet/diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"Cannot read .*unet"):
        StableDiffusion.load(own_folder)
    weights.unlink()
    torch.save({}, own_folder / "unet/diffusion_pytorch_model.bin")
    with pytest.raises(ValueError, match=r"Cannot read .*unet.*safetensors"):
        StableDiffusion.load(own_folder)


def test_a_guidance_scale_out_of_range_is_named(model):
    with pytest.raises(ValueError, match="guidance scale is -1"):
        DiffusersPrior(model, "a fox", guidance_scale=-1)
