"""CLIP's directional loss as a term of the objective (StyleGAN-NADA)."""

import pytest
import torch
import torch.nn.functional as F
from comfyui_stylegan_fusion.metrics.clip import ImageEncoder, middle_square
from comfyui_stylegan_fusion.sds import (
    AllLayers,
    ClipDirectional,
    DirectionalRegularizer,
    PicturesPrior,
    SavedTraining,
    SavedTrainingError,
    ScoreDistillation,
    TrainingInterrupted,
    View,
    pictures_side,
    train_generator,
)
from comfyui_stylegan_fusion.sds.objective import Objective
from comfyui_stylegan_fusion.sds.terms.clip import PULL, SHORTEST, TEMPLATES, directional_loss, text_direction
from comfyui_stylegan_fusion.sds.training import GeneratorTraining
from comfyui_stylegan_fusion.stylegan import Crop
from gaussian import GaussianPrior
from trainings import assert_same_weights, settings

CPU = torch.device("cpu")


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Small(torch.nn.Module):
    """A vision model of 16 pixels and 8 numbers that is not linear."""

    def __init__(self, seed):
        super().__init__()
        self.weight = torch.nn.Parameter(normal(8, 3 * 16 * 16, seed=seed) / 16)
        self.out = torch.nn.Parameter(normal(8, 8, seed=seed + 1))

    def forward(self, pixel_values):
        return torch.tanh(pixel_values.flatten(1) @ self.weight.T) @ self.out.T


def encoder(seed=1):
    return ImageEncoder(Small(seed), 16, (0.4, 0.5, 0.6), (0.3, 0.2, 0.25), lambda found: found)


def embed(text):
    return normal(8, seed=sum(map(ord, text)))


def term(seed=1, weight=1.0, target="a fox", phrased=False):
    return ClipDirectional.of(encoder(seed), embed, "a person", target, weight, phrased)


def images(seed, size=32):
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 1.6 - 0.8


def test_its_gradient_is_that_of_the_formula_written_out_and_the_slope():
    made, x = term(), images(0).requires_grad_()
    view = View(0.5, images=x, frozen_images=images(1))
    (found,) = torch.autograd.grad(made.distance(view).sum(), x)

    def plain(x):
        """1 - cos of both differences, in double precision, one sample at a time."""
        model, losses = encoder().double(), []
        for one, frozen in zip(x, images(1).double(), strict=True):
            after, before = (
                model.model((F.interpolate((p + 1) / 2, (16, 16), mode="bicubic", antialias=True) - mean) / spread)
                for p in (one[None], frozen[None])
            )
            moved = (after / after.norm() - before / before.norm())[0]
            wanted = (
                embed("a fox").double() / embed("a fox").norm() - embed("a person").double() / embed("a person").norm()
            )
            losses.append(1 - moved @ wanted / wanted.norm() / (moved @ moved + SHORTEST**2).sqrt())
        return torch.stack(losses).sum()

    mean, spread = (torch.tensor(v, dtype=torch.float64).view(3, 1, 1) for v in ((0.4, 0.5, 0.6), (0.3, 0.2, 0.25)))
    double = images(0).double().requires_grad_()
    (expected,) = torch.autograd.grad(plain(double), double)
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item())
    step = 1e-5 * expected / expected.norm()
    with torch.no_grad():
        slope = (plain(double + step) - plain(double - step)) / 2e-5
    assert slope.item() == pytest.approx(expected.norm().item(), rel=1e-4)


def test_it_is_the_cosine_once_pictures_have_moved_and_its_gradient_stays_finite_before():
    direction = F.normalize(normal(8, seed=3), dim=0)
    moved = 5 * normal(4, 8, seed=4)
    cosine = F.cosine_similarity(moved, direction[None], dim=1)
    torch.testing.assert_close(directional_loss(moved, direction), 1 - cosine, atol=1e-3, rtol=0)
    still = torch.zeros(1, 8, requires_grad=True)
    (gradient,) = torch.autograd.grad(directional_loss(still, direction).sum(), still)
    torch.testing.assert_close(gradient[0], -direction / SHORTEST)


def test_the_direction_of_two_texts_averages_their_phrasings():
    found = text_direction(embed, "a person", "a fox")
    ends = [
        sum(embed(t.format(text)) / embed(t.format(text)).norm() for t in TEMPLATES) for text in ("a person", "a fox")
    ]
    torch.testing.assert_close(found, (ends[1] - ends[0]) / (ends[1] - ends[0]).norm())
    assert term(phrased=True).phrasings == len(TEMPLATES) > 1 and TEMPLATES[0] == "{}"


@pytest.mark.parametrize(
    "source, target, said", [("", "a fox", "source text is empty"), ("a", " ", "target text is"), ("a", "a ", "same")]
)
def test_texts_that_name_no_direction_are_refused(source, target, said):
    with pytest.raises(ValueError, match=said):
        ClipDirectional.of(encoder(), embed, source, target)


def test_its_pull_grows_with_the_latent_places():
    assert term(weight=2.0).pull(View(0.5, images=images(0, 64))) == 2.0 * PULL * 64


def test_the_square_in_the_middle_of_a_picture_counts():
    wide = torch.cat([torch.ones(1, 3, 16, 8), images(0, 16)[:1].clamp(0, 1), torch.ones(1, 3, 16, 8)], dim=3)
    assert torch.equal(middle_square(wide, 16), images(0, 16)[:1].clamp(0, 1))


def test_a_training_by_it_alone_moves_pictures_along_the_direction_without_a_diffusion_model(generator):
    terms = [term()]
    prior = PicturesPrior(pictures_side(terms, generator), CPU)
    assert prior.image_size == 32 and pictures_side(terms, generator, Crop(width=32, height=24)) == 32
    result = train_generator(generator, prior, settings(steps=40, batch_size=4, learning_rate=0.005), terms)
    _, losses = result.history.series("clip directional")
    assert losses[0] == pytest.approx(1.0) and sum(losses[-5:]) / 5 < 0.75
    assert "t" not in result.history.records[0].notes


def test_two_clips_are_two_terms_and_what_tells_them_is_in_their_description(generator):
    first, second = term(), term(seed=5, weight=0.5)
    described = first.describe()
    assert described == {
        "term": "clip directional", "weight": 1.0, "clip": first.encoder.digest, "source": "a person",
        "target": "a fox", "phrasings": 1,
    }  # fmt: skip
    others = [second, term(target="a cat"), term(phrased=True)]
    assert all(other.describe() != described for other in others) and first.prompt == "a fox"
    result = train_generator(generator, PicturesPrior(32, CPU), settings(steps=1), [first, second])
    assert {*result.history.records[0].losses} == {"clip directional", "clip directional 2"}
    with pytest.raises(ValueError, match="given twice"):
        train_generator(generator, PicturesPrior(32, CPU), settings(), [first, term(weight=3.0)])


@pytest.mark.parametrize("beside", [[], [DirectionalRegularizer(0.5)]])
def test_a_training_by_it_goes_on_bit_for_bit_and_not_by_another_text(generator, tmp_path, beside):
    prior = GaussianPrior() if beside else PicturesPrior(32, CPU)
    terms, saved = [term(), *beside], SavedTraining(tmp_path / "training.safetensors", every=2)
    whole = train_generator(generator, prior, settings(steps=5), terms)

    def stop(progress):
        if progress.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(TrainingInterrupted):
        train_generator(generator, prior, settings(steps=5), terms, progress=stop, saved=saved)
    with pytest.raises(SavedTrainingError, match="another run"):
        train_generator(generator, prior, settings(steps=5), [term(target="a cat"), *beside], saved=saved)
    assert_same_weights(
        train_generator(generator, prior, settings(steps=5), terms, saved=saved).generator, whole.generator
    )


def test_parts_of_a_batch_give_the_gradient_of_the_whole(generator):
    from comfyui_stylegan_fusion.sds.objective import Batch
    from comfyui_stylegan_fusion.stylegan import Draw

    objective = Objective(PicturesPrior(32, CPU), [term()], 1.0, 0.95)
    draw = Draw(generator.mapping(normal(4, generator.z_dim)).detach())
    weights = [generator.synthesis.layers[3].weight.requires_grad_()]
    batch = Batch(draw, [0.5], lambda shape: torch.zeros(shape))
    moved = Draw(draw.ws + 0.3)
    reference = objective.reference(generator, moved, None)
    whole, parts = (objective.gradients(generator, batch, reference, weights, size) for size in (None, 3))
    torch.testing.assert_close(whole[0], parts[0], rtol=1e-4, atol=1e-7)
    assert whole[1] == pytest.approx(parts[1], rel=1e-4)


def test_what_it_takes_on_the_device_is_counted():
    made = term()
    kept, beyond = made.memory(torch.empty(4, 3, 32, 32, device="meta"))
    assert kept == 4 * (8 * 768 + 64) and beyond > 4 * 4 * 3 * 32 * 32
    assert all(value.device.type == "cpu" for value in made.encoder.state_dict().values())


def test_the_device_is_told_of_it(generator):
    prior, beside = GaussianPrior(), [DirectionalRegularizer(0.5), ScoreDistillation()]
    prior.session.makes_room = True
    without, told = (
        GeneratorTraining(generator, prior, settings(), terms, AllLayers()).adaptation.memory_request()
        for terms in (beside, [*beside, term(), term(seed=5)])
    )
    kept, _ = term().memory(torch.empty(2, 3, 16, 16, device="meta"))
    assert told.resident_bytes == without.resident_bytes + 2 * kept and told.peak_bytes >= without.peak_bytes
