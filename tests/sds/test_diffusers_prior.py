"""The diffusers prior on a tiny Stable Diffusion with random weights, read from a folder."""

import json
import shutil

import pytest
import torch
from comfyui_stylegan_fusion.sds.priors.diffusers import DiffusersPrior, ExtraPrompt, StableDiffusion
from tiny_diffusion import write_folder, write_scheduler

pytest.importorskip("diffusers", reason="the extra 'headless' is not installed")
pytest.importorskip("transformers", reason="the extra 'headless' is not installed")

ALPHA_BAR = (1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2).cumprod(0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("tiny-sd"))


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


def test_prompts_of_different_lengths_go_through_the_unet_in_one_call(model):
    long, z_t, rows = "a fox " * 80, normal(2, 4, 8, 8), []
    prior = DiffusersPrior(model, long, "robot", 7.5, extra_prompts=[ExtraPrompt("hat", "a fox " * 40, 2.0)])
    hook = model.unet.register_forward_pre_hook(lambda module, arguments: rows.append(len(arguments[0])))
    eps = prior.conditions(z_t, 0.3)
    hook.remove()
    assert rows == [6]
    assert [len(states) for states in prior._states] == [77, 77 * 3, 77 * 2]
    for name, states in zip(eps, prior._states, strict=True):  # what was filled up is not seen
        with torch.no_grad():
            alone = model.unet(z_t, 300, states.expand(2, -1, -1)).sample
        torch.testing.assert_close(eps[name], alone, rtol=1e-4, atol=1e-5)


def test_sdxl_reads_both_texts_the_whole_prompt_and_the_size_of_the_picture(tmp_path):
    model, read = StableDiffusion.load(write_folder(tmp_path, two=True)), []
    prior = DiffusersPrior(model, "a fox " * 60, "", 7.5)
    first, second = ([encoder, tokenizer] for encoder, tokenizer in zip(*encoders(model), strict=True))
    assert prior._states[1].shape == (77 * 2, 16 + 24)
    ids = [*second[1]("a fox " * 60, truncation=True, max_length=77).input_ids]
    ids[-1] = second[1].eos_token_id
    with torch.no_grad():
        found = [encoder(torch.tensor([ids]), output_hidden_states=True) for encoder, _ in (first, second)]
    states = torch.cat([one.hidden_states[-2][0] for one in found], dim=-1)  # of the first chunk
    torch.testing.assert_close(prior._states[1][:77], states, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(prior._pooled[1], found[1].text_embeds[0], rtol=1e-4, atol=1e-5)
    hook = model.unet.register_forward_pre_hook(lambda module, _, given: read.append(given), with_kwargs=True)
    prior.guided(normal(2, 4, 8, 8), 0.3)
    hook.remove()
    added = read[0]["added_cond_kwargs"]
    assert added["time_ids"].tolist() == [[16, 16, 0, 0, 16, 16]] * 4
    assert torch.equal(added["text_embeds"][2:], prior._pooled[1].expand(2, -1))
    assert added["text_embeds"][0].abs().sum() > 0  # an empty prompt is encoded like any other, as ComfyUI does


def encoders(model):
    return (model.text_encoder, model.text_encoder_2), (model.tokenizer, model.tokenizer_2)


def test_what_is_not_a_model_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no model_index\.json"):
        StableDiffusion.load(tmp_path / "nothing")
    (tmp_path / "model_index.json").write_text("{")
    with pytest.raises(ValueError, match="is not valid JSON"):
        StableDiffusion.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"text_encoder_2": ["transformers", "CLIPTextModelWithProjection"]}, "tokenizer_2 is missing"),
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


def test_a_guidance_scale_out_of_range_is_named(model):
    with pytest.raises(ValueError, match="guidance scale is -1"):
        DiffusersPrior(model, "a fox", guidance_scale=-1)


def test_a_view_takes_its_prompt_in_place_of_the_prompt(model):
    """What a prior with that prompt says, whatever else it has."""
    given = {"negative_prompt": "robot", "guidance_scale": 7.5, "extra_prompts": [ExtraPrompt("hat", "a hat", -2.0)]}
    prior = DiffusersPrior(model, "a fox", **given, view_prompts={"side": "a fox from the side"})
    z_t = normal(2, 4, 8, 8)
    assert prior.views == ("side",)
    assert torch.equal(prior.guided(z_t, 0.3), DiffusersPrior(model, "a fox", **given).guided(z_t, 0.3))
    expected = DiffusersPrior(model, "a fox from the side", **given).guided(z_t, 0.3)
    assert torch.equal(prior.facing("side").guided(z_t, 0.3), expected)
