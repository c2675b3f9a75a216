"""The committed weights: the classifier reads, the autoencoder is sharp, the diffusion model and the generator draw."""

from dataclasses import replace

import pytest
import torch
from comfyui_stylegan_fusion import load_generator
from comfyui_stylegan_fusion.metrics.evaluation import agreement, clip_score, frechet_distance
from comfyui_stylegan_fusion.miniature import WEIGHTS
from comfyui_stylegan_fusion.miniature.classifier import load_classifier
from comfyui_stylegan_fusion.miniature.damage import blurred, disturbed
from comfyui_stylegan_fusion.miniature.factors import BACKGROUNDS, DOMAINS, sample_factors
from comfyui_stylegan_fusion.miniature.metrics import diversity, fine_detail
from comfyui_stylegan_fusion.miniature.renderer import render
from comfyui_stylegan_fusion.miniature.settings import MINIATURE_SETTINGS, prompt_for
from comfyui_stylegan_fusion.miniature.stages import seeded
from comfyui_stylegan_fusion.miniature.train_generator import portraits_of
from comfyui_stylegan_fusion.sds import Editor, make_targets
from comfyui_stylegan_fusion.sds.priors.diffusers import DiffusersPrior
from comfyui_stylegan_fusion.stylegan import render_samples, sample_z


@pytest.fixture(scope="module")
def judge():
    return load_classifier()


@pytest.fixture(scope="module")
def diffusion():
    from comfyui_stylegan_fusion.sds.priors.diffusers import StableDiffusion

    return StableDiffusion.load(WEIGHTS / "diffusion", decoder=True)


@pytest.fixture(scope="module")
def clip():
    """Functions from pictures and from lines of text to embeddings."""
    from transformers import CLIPTextModelWithProjection, CLIPTokenizer, CLIPVisionModelWithProjection

    vision, text = (
        kind.from_pretrained(WEIGHTS / "clip" / name, dtype=torch.float32).eval().requires_grad_(False)
        for kind, name in ((CLIPVisionModelWithProjection, "vision"), (CLIPTextModelWithProjection, "text"))
    )
    tokenizer = CLIPTokenizer.from_pretrained(WEIGHTS / "diffusion" / "tokenizer", local_files_only=True)

    def read(lines):
        return text(tokenizer(lines, padding=True, return_tensors="pt").input_ids).text_embeds

    return lambda pictures: vision(pixel_values=pictures).image_embeds, read


def named(clip, pictures):
    see, read = clip
    lines = read([f"a portrait of a {domain}" for domain in DOMAINS])
    return torch.cosine_similarity(see(pictures)[:, None], lines, dim=-1).argmax(1)


def test_clip_names_the_domain_of_new_portraits(clip):
    factors = sample_factors(300, seeded(820))
    assert (named(clip, render(factors)) == factors.domain).float().mean() > 0.9


def test_clip_names_what_the_generator_draws(clip):
    generator = load_generator("miniature")
    with torch.no_grad():
        drawn = generator(sample_z(generator.z_dim, 60, seed=6)).clamp(-1, 1)
    assert (named(clip, drawn) == DOMAINS.index("person")).float().mean() > 0.85


def test_clip_score_falls_while_foxes_are_blended_into_persons(clip):
    see, read = clip
    fox, person = (render(sample_factors(60, seeded(821), name)) for name in ("fox", "person"))
    text = read(["a portrait of a fox"])[0]
    scores = [clip_score(see(torch.lerp(fox, person, share)), text).value for share in (0.0, 0.3, 0.6, 1.0)]
    assert scores == sorted(scores, reverse=True) and scores[0] > scores[-1] + 20


def test_clip_knows_plain_colours(clip):
    see, read = clip
    colours = torch.tensor(list(BACKGROUNDS.values()))[:, :, None, None].expand(-1, -1, 64, 64) * 2 - 1
    assert agreement(see(colours), read([f"a {name} background" for name in BACKGROUNDS])) >= 7


def test_all_weights_together_stay_small():
    assert sum(file.stat().st_size for file in WEIGHTS.rglob("*.safetensors")) <= 30e6


def test_the_classifier_reads_new_renders_and_soft_ones(judge):
    factors = sample_factors(300, seeded(800))
    images = render(factors)
    for pictures in (images, blurred(images, torch.full([300], 1.5))):
        seen = judge.read(pictures)
        assert (seen.domain.argmax(1) == factors.domain).float().mean() > 0.98
        assert (seen.background - factors.background).abs().mean() < 0.05
        assert (seen.position[:, 0] - factors.x).abs().mean() < 0.03


def test_distances_order_known_mixtures_and_blurs(judge):
    def features(images):
        return judge.read(images).features

    fox, person = (render(sample_factors(300, seeded(801, i), name)) for i, name in enumerate(("fox", "person")))
    reference = features(render(sample_factors(300, seeded(802), "fox")))
    for series in (
        [torch.cat([person[: 3 * p], fox[3 * p :]]) for p in (0, 25, 50, 100)],
        [blurred(fox, torch.full([300], s)) for s in (0.0, 1.0, 2.0, 4.0)],
    ):
        distances = [frechet_distance(features(images), reference) for images in series]
        assert distances == sorted(distances)


@torch.no_grad()
def test_the_autoencoder_is_sharp(diffusion, judge):
    """Pictures keep more of their edges than under a blur of 0.4 pixels, and for the judge they are as good as new."""

    def edges(pictures):
        return pictures.diff(dim=-1).abs().mean() + pictures.diff(dim=-2).abs().mean()

    images = render(sample_factors(300, seeded(803), "fox"))
    latents = torch.cat([diffusion.vae.encode(part).latent_dist.mode() for part in images.split(100)])
    back = torch.cat([diffusion.vae.decode(part).sample for part in latents.split(100)])
    assert (back - images).abs().mean() < 0.06
    assert edges(back) > edges(blurred(images, torch.full([300], 0.4)))
    reference = judge.read(render(sample_factors(300, seeded(806), "fox"))).features
    new, through = (frechet_distance(judge.read(pictures).features, reference) for pictures in (images, back))
    assert through < 1.1 * new


@torch.no_grad()
def test_the_autoencoder_keeps_pictures_that_are_no_portraits(diffusion):
    """One that saw portraits alone made better ones of them (error 0.11), and a generator learned to please it."""
    images = disturbed(render(sample_factors(100, seeded(811))), seeded(812))
    back = diffusion.vae.decode(diffusion.vae.encode(images).latent_dist.mode()).sample
    assert (back - images).abs().mean() < 0.06


@torch.no_grad()
def test_the_diffusion_model_draws_every_domain_it_is_asked_for(diffusion, judge):
    from comfyui_stylegan_fusion.miniature.drawing import draw
    from comfyui_stylegan_fusion.sds.priors.diffusers import DiffusersPrior

    for index, domain in enumerate(DOMAINS):
        pictures = draw(DiffusersPrior(diffusion, f"a portrait of a {domain}", guidance_scale=4.0), 10, index, steps=12)
        assert (judge.read(pictures).domain.argmax(1) == index).sum() >= 9, domain


@pytest.mark.parametrize("domain, name", [("person", "miniature"), ("cat", "miniature-cat")])
@torch.no_grad()
def test_a_generator_draws_the_portrait_that_its_latent_stands_for(judge, domain, name):
    """With nearly all of its fine detail, where the choices of hat and hair are clear."""
    generator, z = load_generator(name), sample_z(128, 300, seed=7)
    drawn, portraits = generator(z).clamp(-1, 1), portraits_of(z, domain)
    seen = judge.read(drawn)
    assert (seen.domain.argmax(1) == DOMAINS.index(domain)).float().mean() > 0.95
    assert (seen.position[:, 0] - portraits.x).abs().mean() < 0.05
    assert fine_detail(drawn) > (0.84 if domain == "person" else 0.79) * fine_detail(render(portraits))


@torch.no_grad()
def test_the_generator_draws_varied_persons(judge):
    generator = load_generator("miniature")
    images = render_samples(generator, sample_z(generator.z_dim, 1000, seed=5)).clamp(-1, 1)
    portraits = render(sample_factors(300, seeded(805), "person"))
    seen, real = judge.read(images), judge.read(portraits)
    assert (seen.domain.argmax(1) == DOMAINS.index("person")).float().mean() > 0.97
    assert diversity(seen.features) > 0.85 * diversity(real.features)
    sharpness = [pictures.diff(dim=-1).abs().mean() for pictures in (images, portraits)]
    assert sharpness[0] > 0.8 * sharpness[1]


def test_targets_made_in_half_precision_are_those_of_single_precision_to_a_level(diffusion):
    generator = load_generator("miniature")
    target = DiffusersPrior(diffusion, prompt_for("fox"), prompt_for("person"), 2.0)
    source = DiffusersPrior(diffusion, prompt_for("person"), "", 1.0)
    settings = replace(MINIATURE_SETTINGS.targets, count=2)
    whole, half = (make_targets(generator, Editor(target, source, half), settings).images for half in (False, True))
    difference = (whole.float() - half.float()).abs()
    assert 0 < difference.mean() < 2
