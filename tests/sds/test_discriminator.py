"""The discriminator beside targets."""

import pytest
import torch
import torch.nn.functional as F
from comfyui_stylegan_fusion.sds import (
    PicturesPrior,
    SavedTraining,
    TargetPictures,
    Targets,
    TopKLayers,
    TrainingInterrupted,
    TrainSettings,
    View,
    train_generator,
)
from comfyui_stylegan_fusion.sds.discriminator import HEAD_START, NAME, PAIRS, Discriminator, PatchNetwork, lag
from comfyui_stylegan_fusion.sds.targets.pool import to_bytes
from comfyui_stylegan_fusion.sds.training import GeneratorTraining
from comfyui_stylegan_fusion.stylegan import draw_codes, sample_codes, sample_z
from comfyui_stylegan_fusion.training.draws import MicroStep
from comfyui_stylegan_fusion.training.memory import transient_bytes
from comfyui_stylegan_fusion.training.out_of_memory import MemoryPolicy

CPU = torch.device("cpu")


def discriminator(micro_batch: int = 8, side: int = 32, **settings) -> Discriminator:
    return Discriminator(TrainSettings(**settings), MemoryPolicy(micro_batch, False, ""), side, CPU)


def pairs(count: int, seed: int, side: int = 32) -> dict[str, torch.Tensor]:
    """Targets, and pictures that are alike but soft."""
    targets = torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return dict(zip(PAIRS, (F.avg_pool2d(targets, 3, 1, 1), targets), strict=True))


def learned(steps: int, **given) -> Discriminator:
    found = discriminator(**given)
    phase = found.phase()
    for step in range(steps):
        phase.update(found.compute([MicroStep(0, step, shared=pairs(4, step))]), step)
    return found


@pytest.mark.parametrize("height, width", [(8, 8), (15, 17), (64, 64), (48, 32), (256, 96)])
def test_pictures_of_any_size_are_judged(height, width):
    images = torch.zeros(2, 3, height, width)
    judged = PatchNetwork(max(height, width))(images)
    assert len(judged) >= 2 and all(one.shape[:2] == (2, 1) and one.isfinite().all() for one in judged)


def test_it_learns_to_tell_soft_pictures_from_their_targets_and_pulls_them_to_be_sharper():
    images, targets = pairs(4, 999).values()
    fresh, trained = discriminator(), learned(60)
    with torch.no_grad():
        before, after = (lag(one.network(images), one.network(targets)).mean() for one in (fresh, trained))
    assert after > 2 * before  # softplus(0) where it can tell nothing
    pull = trained.pull(images, targets)
    assert torch.allclose(pull.flatten(1).norm(dim=1), torch.full((4,), pull[0].numel() ** -0.5), rtol=1e-4)
    with torch.no_grad():
        moved = lag(trained.network(images - 10 * pull), trained.network(targets)).mean()
    assert moved < after


def test_where_it_sees_no_difference_nothing_pulls():
    trained = learned(2)
    with torch.no_grad():
        for judge in trained.network.judges:
            judge.weight.zero_()
    assert torch.equal(trained.pull(*pairs(2, 1).values()), torch.zeros(2, 3, 32, 32))


@pytest.mark.parametrize("step", [0, 1], ids=["with the penalty", "without"])
def test_a_batch_in_pieces_gives_the_same_gradients(step):
    whole, pieces = (
        discriminator(micro_batch).compute([MicroStep(0, step, shared=pairs(4, 5))]) for micro_batch in (8, 1)
    )
    assert whole.losses[NAME] == pytest.approx(pieces.losses[NAME])
    for one, other in zip(whole.gradients.values(), pieces.gradients.values(), strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-7)


def test_the_penalty_holds_its_slopes_back():
    slopes = []
    for penalty in (1e-3, 0.0):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("comfyui_stylegan_fusion.sds.discriminator.PENALTY", penalty)
            images = pairs(4, 999)[PAIRS[0]].requires_grad_()
            judged = learned(30).network(images)
        (slope,) = torch.autograd.grad(sum(one.flatten(1).mean(1).sum() for one in judged), images)
        slopes.append(slope.norm())
    assert slopes[0] < 0.8 * slopes[1]


def test_a_step_that_was_skipped_teaches_nothing_and_infinite_pictures_skip_its_update():
    assert discriminator().compute([MicroStep(0, 0)]).gradients == {}
    broken = {name: images * float("nan") for name, images in pairs(2, 0).items()}
    assert "discriminator" in discriminator().compute([MicroStep(0, 0, shared=broken)]).skipped


def test_it_is_drawn_by_the_seed_and_leaves_others_random_numbers_alone():
    torch.manual_seed(3)
    wanted = torch.rand(3)
    torch.manual_seed(3)
    one, same, other = (discriminator(seed=seed).network.first.weight for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), wanted)
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_it_says_at_least_what_a_step_takes():
    found, shared = discriminator(side=64), pairs(4, 0, 64)
    kept, beyond = found.memory(torch.empty(4, 3, 64, 64, device="meta"))
    assert kept >= 3 * sum(one.nbytes for one in found.network.parameters())
    measured = transient_bytes(lambda: found.compute([MicroStep(0, 0, shared=shared)]))
    assert measured <= beyond * 1.05 < 2 * measured


def soft_pool(generator) -> Targets:
    codes = sample_codes(generator, sample_z(generator.z_dim, 6, 1))
    return Targets(codes, to_bytes(torch.cat([*draw_codes(generator, codes)]).flip(-1)))


def adapted(generator, pool, *given, adversarial=0.5, **changes):
    settings = TrainSettings(steps=10, batch_size=2, precision="float32")
    return train_generator(
        generator,
        PicturesPrior(pool.side, CPU),
        settings,
        [TargetPictures(targets=pool, adversarial=adversarial)],
        **changes,
    )


def test_a_training_listens_to_it_after_its_head_start(generator):
    pool = soft_pool(generator)
    term = TargetPictures(targets=pool, discriminator=discriminator(side=pool.side))
    images, targets = (torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(i)) for i in (0, 1))
    images.requires_grad_()

    def seen(progress):
        distance = term.distance(View(0.0, progress=progress, images=images, targets=targets))
        return distance.detach(), torch.autograd.grad(distance.sum(), images)[0]

    (value, early), (same, late) = seen(0.0), seen(HEAD_START)
    assert torch.allclose(value, same)
    expected = 0.5 * 5 * term.discriminator.pull(images, targets)
    assert torch.allclose(late - early, expected, atol=1e-6) and expected.norm() > 0
    with_it, without = (adapted(generator, pool, adversarial=strength) for strength in (0.5, 0.0))
    assert all(NAME in record.losses for record in with_it.history.records)
    assert not any(NAME in record.losses for record in without.history.records)
    ours, others = (result.generator.state_dict() for result in (with_it, without))
    assert not all(torch.equal(value, others[name]) for name, value in ours.items())


def test_a_training_that_version_0_3_left_unfinished_goes_on_with_a_discriminator(generator, tmp_path):
    pool = soft_pool(generator)
    saved = SavedTraining(tmp_path / "training.safetensors", identity="new", earlier_identity="old")

    def stop(progress):
        if progress.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(TrainingInterrupted):  # as it was before there was one
        earlier = SavedTraining(saved.path, identity="old")
        adapted(generator, pool, adversarial=0.0, progress=stop, saved=earlier)
    result = adapted(generator, pool, saved=saved)
    assert [NAME in record.losses for record in result.history.records] == [False] * 3 + [True] * 7


def test_it_is_shown_what_the_generator_draws_of_the_targets_codes_however_layers_are_searched_for(generator):
    pool = soft_pool(generator)
    settings = TrainSettings(steps=10, batch_size=2, precision="float32")
    prior, terms = PicturesPrior(pool.side, CPU), [TargetPictures(targets=pool)]
    run, micro_step = GeneratorTraining(generator, prior, settings, terms, TopKLayers(1, 3)), MicroStep(0, 5)
    run.adaptation.compute([micro_step])
    rows = pool.rows(micro_step, 2, 1)
    drawn = torch.cat([*draw_codes(generator, pool.codes[rows])])
    assert torch.allclose(micro_step.shared[PAIRS[0]], drawn.clamp(-1, 1), atol=1e-5)
    assert torch.equal(micro_step.shared[PAIRS[1]], pool.pictures(rows, CPU))
