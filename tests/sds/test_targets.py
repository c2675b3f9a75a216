"""Targets: editing there and back, the folder that keeps them, and training towards them."""

import dataclasses
import math

import pytest
import torch
from comfyui_stylegan_fusion.sds import (
    DirectionalRegularizer,
    Editor,
    PicturesPrior,
    SavedTraining,
    ScoreDistillation,
    TargetLatents,
    TargetPictures,
    Targets,
    TargetsError,
    TargetSettings,
    TargetsFolder,
    TrainingInterrupted,
    TrainSettings,
    View,
    make_targets,
    train_generator,
)
from comfyui_stylegan_fusion.sds.objective import Objective
from comfyui_stylegan_fusion.sds.targets.editing import edited, invert, noised, timesteps_up_to
from comfyui_stylegan_fusion.sds.targets.making import edit_strip, samples_of
from comfyui_stylegan_fusion.sds.targets.pool import to_bytes, to_unit
from comfyui_stylegan_fusion.stylegan import draw_codes, sample_codes, sample_z
from comfyui_stylegan_fusion.training.draws import MicroStep
from gaussian import GaussianPrior
from PIL import Image
from torch.nn import functional as F
from trainings import small_generator


class Drawing(GaussianPrior):
    """A GaussianPrior that can decode, and whose pictures are 32 pixels wide."""

    image_size = 16

    def decode(self, latents):
        images = torch.einsum("cd,bdhw->bchw", torch.linalg.pinv(self.mixing), latents)
        return F.interpolate(images, scale_factor=2)


class Flow(Drawing):
    """The same distribution as a flow model has it: alpha = 1 - t, sigma = t."""

    def schedule(self, t):
        t = min(max(t, 0.001), 0.999)
        return 1 - t, t


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def editor(source=(0.1, 0.2, 0.3), target=(0.8, -0.6, -0.2), kind=Drawing):
    return Editor(kind(target), kind(source))


def with_little_memory(tight):
    guided = tight.target.guided

    def of_little_memory(z_t, t, scaling=1.0):
        if len(z_t) > 2:
            raise torch.OutOfMemoryError("no room")
        return guided(z_t, t, scaling)

    tight.target.guided = of_little_memory
    return tight


SETTINGS = TargetSettings(count=6, levels=3, batch_size=4, seed=3)


@pytest.mark.parametrize("kind", [Drawing, Flow])
@pytest.mark.parametrize("strength", [0.3, 0.8])
def test_editing_moves_a_latent_along_both_paths_as_their_equations_say(kind, strength):
    """Between two Gaussians of one spread s the paths are known: at noise level t a latent's distance from the mean has
    grown by r = sqrt(alpha^2 s^2 + sigma^2) / s."""
    source, target = kind((0.1, 0.2, 0.3)), kind()
    z, timesteps = normal(2, 4, 8, 8), timesteps_up_to(strength, 400)
    found = edited(target, invert(source, z, timesteps), timesteps)
    alpha, sigma = source.schedule(strength)
    r = math.sqrt(alpha**2 * source.spread**2 + sigma**2) / source.spread
    torch.testing.assert_close(found, z + (target.mean - source.mean) * (1 - alpha / r), atol=0.02, rtol=0)
    torch.testing.assert_close(edited(source, invert(source, z, timesteps), timesteps), z, atol=0.02, rtol=0)


def test_one_noise_for_all_is_a_function_of_its_seed():
    prior, z = Drawing(), normal(3, 4, 8, 8)
    a, b = (noised(prior, z, 0.5, torch.Generator().manual_seed(seed)) for seed in (1, 2))
    alpha, _ = prior.schedule(0.5)
    eps = a - alpha * z
    torch.testing.assert_close(eps, eps[:1].expand_as(eps))
    assert not torch.allclose(a, b)


def test_targets_are_the_edits_of_the_samples_that_the_seed_names(generator):
    targets = make_targets(generator, editor(), SETTINGS)
    codes = sample_codes(generator, sample_z(generator.z_dim, 6, 3))
    assert torch.equal(targets.codes, codes) and targets.images.shape == (6, 3, 16, 16)
    samples = F.interpolate(torch.cat([*draw_codes(generator, codes)]), (16, 16), mode="bilinear")
    wanted = editor().edited(samples.clamp(-1, 1), 0.8, 3)
    assert (to_unit(targets.images) - wanted).abs().max() < 0.01


def test_further_codes_come_first_and_leave_the_others_as_they_are(generator):
    photo = sample_codes(generator, sample_z(generator.z_dim, 1, 99)) + 0.5
    alone, with_it = (
        make_targets(generator, editor(), SETTINGS),
        make_targets(generator, editor(), SETTINGS, further=photo),
    )
    assert torch.equal(with_it.codes, torch.cat([photo, alone.codes]))
    assert torch.equal(with_it.images[1:], alone.images)
    sample = F.interpolate(torch.cat([*draw_codes(generator, photo)]), (16, 16), mode="bilinear")
    assert (to_unit(with_it.images[:1]) - editor().edited(sample.clamp(-1, 1), 0.8, 3)).abs().max() < 0.01
    with pytest.raises(ValueError, match="latents"):
        make_targets(generator, editor(), SETTINGS, further=photo[:, :2])


def test_each_of_the_pool_comes_once_before_any_comes_again():
    pool = Targets(normal(5, 2, 3), torch.zeros(5, 3, 8, 8, dtype=torch.uint8))
    rows = torch.cat([pool.rows(MicroStep(7, step, index), 2, 2) for step in range(5) for index in range(2)])
    turns = rows.split(5)
    assert all(sorted(turn.tolist()) == [0, 1, 2, 3, 4] for turn in turns)
    assert turns[0].tolist() != turns[1].tolist()
    assert torch.equal(pool.rows(MicroStep(7, 3), 4, 1), pool.rows(MicroStep(7, 3), 4, 1))


def test_targets_that_do_not_fit_together_are_refused():
    with pytest.raises(ValueError, match="3 codes and 2 pictures"):
        Targets(normal(3, 2, 3), torch.zeros(2, 3, 8, 8, dtype=torch.uint8))
    with pytest.raises(ValueError, match="needs some"):
        TargetPictures()


def pictures(pool, **changes):
    return TargetPictures(targets=pool, **changes)


def test_training_towards_what_the_generator_draws_already_finds_no_difference(generator):
    codes = sample_codes(generator, sample_z(generator.z_dim, 4, 1))
    pool = Targets(codes, to_bytes(torch.cat([*draw_codes(generator, codes)])))
    result = train_generator(
        generator,
        PicturesPrior(pool.side, torch.device("cpu")),
        TrainSettings(steps=1, batch_size=4, precision="float32"),
        [pictures(pool)],
    )
    assert result.history.records[0].losses["targets"] < 0.1  # the rounding to bytes, in pixels and edges


def test_training_comes_nearer_to_the_targets_without_a_diffusion_model(generator):
    pool = make_targets(generator, editor(), SETTINGS)
    settings = TrainSettings(steps=40, batch_size=6, cooldown=0.5)
    result = train_generator(generator, PicturesPrior(16, torch.device("cpu")), settings, [pictures(pool)])
    _, losses = result.history.series("targets")
    assert losses[-1] < 0.6 * losses[0]
    assert "t" not in result.history.records[0].notes


@pytest.mark.parametrize("optimizer, average", [("auto", None), ("adam", 0.0), ("muon", 0.9)])
def test_a_training_towards_targets_goes_on_bit_for_bit(generator, tmp_path, optimizer, average):
    pool = make_targets(generator, editor(), SETTINGS)
    settings = TrainSettings(steps=6, batch_size=2, optimizer=optimizer, average=average, precision="bfloat16")
    terms = [pictures(pool), ScoreDistillation(0.5), DirectionalRegularizer(0.5)]
    whole = train_generator(generator, Drawing(), settings, terms)
    saved = SavedTraining(tmp_path / "training.safetensors", every=2)

    def stop(progress):
        if progress.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(TrainingInterrupted):
        train_generator(generator, Drawing(), settings, terms, progress=stop, saved=saved)
    parts = train_generator(generator, Drawing(), settings, terms, saved=saved)
    wanted = whole.generator.state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in parts.generator.state_dict().items())


@pytest.mark.parametrize(
    "optimizer, cooldown, meant", [("auto", 0.0, 0.99), ("auto", 0.5, 0.0), ("adam", 0.0, 0.0)], ids=str
)
def test_steps_of_muon_that_stay_large_are_averaged_unless_the_settings_say_otherwise(
    generator, optimizer, cooldown, meant
):
    pool = make_targets(generator, editor(), SETTINGS)

    def trained(average):
        settings = TrainSettings(steps=3, batch_size=2, optimizer=optimizer, cooldown=cooldown, average=average)
        return train_generator(generator, Drawing(), settings, [pictures(pool)]).generator.state_dict()

    ours, wanted, others = trained(None), trained(meant), trained(0.99 - meant)
    assert all(torch.equal(value, wanted[name]) for name, value in ours.items())
    assert not all(torch.equal(value, others[name]) for name, value in ours.items())


def test_other_targets_are_another_training(generator, tmp_path):
    pool = make_targets(generator, editor(), SETTINGS)
    one, other = pictures(pool).describe(), pictures(pool[1:]).describe()
    assert one["targets"] != other["targets"] and one == pictures(pool).describe()


def test_the_pull_of_a_picture_grows_with_its_places_so_that_terms_compare_at_every_size():
    pool = Targets(normal(2, 2, 3), torch.zeros(2, 3, 8, 8, dtype=torch.uint8))
    small, large = (torch.zeros(2, 3, side, side) for side in (64, 128))
    term = pictures(pool, weight=0.5)
    assert term.pull(View(0.0, images=large)) == 4 * term.pull(View(0.0, images=small)) == 4 * 0.5 * 64


def test_a_folder_goes_on_where_making_was_cut_short_and_makes_nothing_twice(generator, tmp_path):
    whole = make_targets(generator, editor(), SETTINGS)
    folder = TargetsFolder(tmp_path / "targets", "mine")

    def stop(made):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_targets(generator, editor(), SETTINGS, folder, stop)
    assert len([*folder.path.glob("*.png")]) == 4 and not folder.edits()
    again, done = editor(), []
    targets = make_targets(
        generator, again, SETTINGS, TargetsFolder(folder.path, "mine"), lambda m: done.append(m.done)
    )
    assert done == [6] and {rows for rows, _ in again.target.calls} == {2}
    assert torch.equal(targets.images, whole.images) and targets.name == whole.name
    assert TargetsFolder(folder.path).read(generator).name == whole.name


def test_pictures_may_be_edited_and_thrown_out_once_all_are_made(generator, tmp_path):
    folder = TargetsFolder(tmp_path, "mine")
    made = make_targets(generator, editor(), SETTINGS, folder)
    assert folder.edits() == []
    (tmp_path / "00000.png").unlink()
    Image.new("RGBA", (40, 40), (255, 0, 0, 128)).save(tmp_path / "00002.png")
    again = make_targets(generator, editor(), SETTINGS, TargetsFolder(tmp_path, "mine"))
    assert torch.equal(again.codes, made.codes[1:]) and again.images.shape == (5, 3, 16, 16)
    assert again.images[1].float().mean((1, 2)).tolist() == [255, 0, 0]
    assert len(TargetsFolder(tmp_path).edits()) == 2


def test_a_folder_of_others_is_refused_with_a_sentence(generator, tmp_path):
    with pytest.raises(TargetsError, match="holds no targets"):
        TargetsFolder(tmp_path).read()
    make_targets(generator, editor(), SETTINGS, TargetsFolder(tmp_path, "mine"))
    with pytest.raises(TargetsError, match="holds other targets"):
        make_targets(generator, editor(), SETTINGS, TargetsFolder(tmp_path, "theirs"))
    with pytest.raises(TargetsError, match="made with another generator"):
        TargetsFolder(tmp_path).read(small_generator(seed=5))
    (tmp_path / "00001.png").write_bytes(b"no picture")
    with pytest.raises(TargetsError, match=r"00001\.png cannot be read as a picture"):
        TargetsFolder(tmp_path).read(generator)
    (tmp_path / "targets.safetensors").write_bytes(b"cut")
    with pytest.raises(TargetsError, match="make the targets anew"):
        TargetsFolder(tmp_path).read(generator)


def test_a_strip_shows_the_first_of_the_targets_at_every_strength_and_scale(generator):
    editors, seen = {1.0: editor(), 2.0: editor(target=(0.0, 0.0, 0.0))}, []
    report = lambda done, images: seen.append(done)  # noqa: E731
    strip = edit_strip(generator, editors, [0.3, 0.8], 3, 2, seed=3, progress=report)
    assert strip.edited.shape == (2, 2, 2, 3, 16, 16) and seen == [1, 2, 3, 4]
    targets = make_targets(generator, editor(), SETTINGS)
    torch.testing.assert_close(strip.edited[:, 0, 1], to_unit(targets.images[:2]), atol=0.005, rtol=0)


def test_refreshed_targets_come_from_the_generator_in_training_and_are_gone_on_with(generator, tmp_path):
    pool = make_targets(generator, editor(), dataclasses.replace(SETTINGS, refresh=2))
    first, settings = pool.images.clone(), TrainSettings(steps=6, batch_size=2)
    prior = PicturesPrior(16, torch.device("cpu"))
    whole = train_generator(generator, prior, settings, [pictures(pool)])
    assert torch.equal(pool.images, first)  # those that came in stay
    saved = SavedTraining(tmp_path / "training.safetensors", every=1)

    def stop(progress):
        if progress.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(TrainingInterrupted):
        train_generator(generator, prior, settings, [pictures(pool)], progress=stop, saved=saved)
    parts = train_generator(generator, prior, settings, [pictures(pool)], saved=saved)
    stay = train_generator(generator, prior, settings, [pictures(dataclasses.replace(pool, refresher=None))])
    wanted, others = whole.generator.state_dict(), stay.generator.state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in parts.generator.state_dict().items())
    assert any(not torch.equal(wanted[name], others[name]) for name in wanted)
    with pytest.raises(ValueError, match="Targets can be refreshed in trainings towards targets alone"):
        train_generator(generator, Drawing(), settings, [pictures(pool), ScoreDistillation()])


def test_a_training_that_ends_while_targets_are_refreshed_goes_on_with_them(generator, tmp_path):
    pool = make_targets(generator, editor(), dataclasses.replace(SETTINGS, refresh=2, refresh_share=0.5, batch_size=2))
    settings, prior = TrainSettings(steps=4, batch_size=2), PicturesPrior(16, torch.device("cpu"))
    whole = train_generator(generator, prior, settings, [pictures(pool)])
    saved = SavedTraining(tmp_path / "training.safetensors", every=1)
    target, seen = pool.refresher.editor.target, []
    target.faults = {len(target.calls): RuntimeError("the device is gone")}
    with pytest.raises(TrainingInterrupted):
        train_generator(generator, prior, settings, [pictures(pool)], saved=saved)
    target.faults = {}

    def refreshing(made):
        seen.append((made.done, made.count, len(made.rows), len(made.targets)))
        if len(seen) == 1:
            raise KeyboardInterrupt

    with pytest.raises(TrainingInterrupted):
        train_generator(generator, prior, settings, [pictures(pool)], saved=saved, refreshing=refreshing)
    parts = train_generator(generator, prior, settings, [pictures(pool)], saved=saved, refreshing=refreshing)
    wanted = whole.generator.state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in parts.generator.state_dict().items())
    assert seen == [(2, 3, 2, 2), (2, 3, 2, 2), (3, 3, 1, 1)]  # that of step 2 has to be made again


def test_the_softest_pictures_get_new_targets_beside_those_that_stay(generator):
    pool = make_targets(generator, editor(), dataclasses.replace(SETTINGS, refresh=2, refresh_share=0.34))
    drawn = samples_of(generator, pool.codes, Drawing())
    soft = [1, 4, 5]  # beside noise any picture is soft
    images = to_bytes(drawn)
    images[soft] = torch.randint(
        0, 256, images[soft].shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    pool = dataclasses.replace(pool, images=images)
    found = pool.refresher(generator, pool)
    assert torch.equal(found[[0, 2, 3]], images[[0, 2, 3]])
    again = editor().edited(drawn[soft], SETTINGS.strength / 2, 2)  # half as far in half the levels, of 3
    assert (found[soft].int() - to_bytes(again).int()).abs().max() <= 1
    tight = dataclasses.replace(pool.refresher, editor=with_little_memory(editor()))
    assert (tight(generator, pool).int() - found.int()).abs().max() <= 1
    whole = dataclasses.replace(pool.refresher, settings=dataclasses.replace(SETTINGS, refresh=2))
    assert not (whole(generator, pool)[[0, 2, 3]] == images[[0, 2, 3]]).flatten(1).all(1).any()


def test_the_pull_on_latents_is_their_difference_whatever_the_timestep(generator):
    pool = make_targets(generator, editor(), SETTINGS)
    prior, term = Drawing(), TargetLatents(0.5, targets=pool)
    objective = Objective(prior, [term], None, None, weighting="sds")
    z, eps = normal(2, 4, 8, 8), normal(2, 4, 8, 8, seed=1)
    wanted = prior.encode(to_unit(pool.images[:2]))
    for t in (0.2, 0.7):
        view = dataclasses.replace(objective.view(z, None, t, eps), target_latents=wanted)
        torch.testing.assert_close(objective.latent_gradient(view)[0], 0.5 * (z - wanted))
    assert prior.calls == []  # the diffusion model itself is not asked
    settings = TrainSettings(steps=20, batch_size=6)
    result = train_generator(generator, prior, settings, [term, pictures(pool, weight=0.1)])
    _, losses = result.history.series("target latents")
    assert losses[-1] < losses[0] and prior.calls == []


def test_targets_are_made_fewer_at_a_time_when_memory_runs_out(generator):
    whole, tight = make_targets(generator, editor(), SETTINGS), with_little_memory(editor())
    targets = make_targets(generator, tight, SETTINGS)
    assert (targets.images.int() - whole.images.int()).abs().max() <= 1
    tight.target.faults = {len(tight.target.calls): torch.OutOfMemoryError("no room")}
    with pytest.raises(torch.OutOfMemoryError):
        make_targets(generator, tight, dataclasses.replace(SETTINGS, batch_size=1))
