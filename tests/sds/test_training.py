"""Training as a whole: what moves, what stays, what can be relied on when it ends early."""

import itertools

import pytest
import torch
from comfyui_stylegan_fusion.sds import (
    AllLayers,
    DirectionalRegularizer,
    ManualLayers,
    ReconstructionRegularizer,
    SavedTraining,
    Session,
    TopKLayers,
    TrainingDiverged,
    TrainingInterrupted,
    diversity,
    train_generator,
)
from comfyui_stylegan_fusion.sds.draws import draw_timestep, draw_z, noise_source
from comfyui_stylegan_fusion.sds.parameters import trained_parameters
from comfyui_stylegan_fusion.sds.training import GeneratorTraining
from comfyui_stylegan_fusion.stylegan import Draw, Generator, GeneratorConfig, sample_z
from comfyui_stylegan_fusion.training.draws import MicroStep
from comfyui_stylegan_fusion.training.loop import train_step
from trainings import assert_same_weights, moved, settings, trained_names


def weights(generator):
    return {name: tensor.clone() for name, tensor in generator.state_dict().items()}


def test_the_samples_move_to_the_priors_mean(generator, prior):
    def distance(g):
        images = g.synthesis(Draw(g.mapping(sample_z(g.z_dim, 16, seed=7))), noise="const")
        pooled = torch.nn.functional.avg_pool2d(images.clamp(-1, 1), 2)
        return (prior.encode(pooled) - prior.mean).square().mean().item()

    with torch.no_grad():
        before = distance(generator)
        result = train_generator(generator, prior, settings(steps=80, batch_size=4, learning_rate=0.01))
        assert distance(result.generator) < 0.5 * before
    assert (result.steps_done, result.interrupted, result.history.skipped) == (80, False, 0)


def test_only_weights_of_the_convolutions_from_8x8_up_move(generator, prior):
    result = train_generator(generator, prior, settings())
    assert moved(generator, result.generator) == trained_names(generator, generator.synthesis.layers[1:])


@pytest.mark.parametrize("group", ["constant", "4x4", "to_rgb"])
def test_groups_are_trained_when_asked_for(generator, prior, group):
    default = moved(generator, train_generator(generator, prior, settings()).generator)
    result = train_generator(generator, prior, settings(also_train=(group,)))
    extra = moved(generator, result.generator) - default
    synthesis = generator.synthesis
    expected = {
        "constant": {name for name, p in generator.named_parameters() if p is synthesis.blocks[0].const},
        "4x4": trained_names(generator, [synthesis.layers[0]]),
        "to_rgb": trained_names(generator, [block.to_rgb for block in synthesis.blocks]),
    }
    assert extra == expected[group]


def test_styles_train_the_shift_of_each_style_channel_of_the_chosen_layers_and_nothing_else(generator, prior):
    result = train_generator(generator, prior, settings(parameterization="styles"))
    blocks = range(len(generator.synthesis.blocks))
    expected = {f"synthesis.blocks.{b}.convs.{c}.affine.bias" for b in blocks[1:] for c in (0, 1)}
    expected |= {f"synthesis.blocks.{b}.to_rgb.affine.bias" for b in blocks[1:]}
    assert moved(generator, result.generator) == expected
    of_one = train_generator(generator, prior, settings(parameterization="styles"), layers=ManualLayers((0,)))
    assert moved(generator, of_one.generator) == {
        "synthesis.blocks.0.convs.0.affine.bias",
        "synthesis.blocks.0.to_rgb.affine.bias",
    }
    with pytest.raises(ValueError, match="'to_rgb' has none to add; leave also_train empty"):
        train_generator(generator, prior, settings(parameterization="styles", also_train=("to_rgb",)))


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_styles_with_layers_chosen_step_by_step_are_resumed_to_the_same_weights(generator, prior, tmp_path, optimizer):
    def train(steps_before, path):
        def stop(progress):
            if progress.step == steps_before:
                raise KeyboardInterrupt

        asked = settings(steps=5, parameterization="styles", optimizer=optimizer)
        return train_generator(generator, prior, asked, layers=TopKLayers(2), progress=stop, saved=SavedTraining(path))

    whole = train(None, tmp_path / "whole")
    with pytest.raises(TrainingInterrupted):
        train(2, tmp_path / "broken")
    assert_same_weights(train(None, tmp_path / "broken").generator, whole.generator)


def test_the_given_generator_stays_as_it_is(generator, prior):
    before = weights(generator)
    flags = [p.requires_grad for p in generator.parameters()]
    result = train_generator(generator, prior, settings(), [DirectionalRegularizer(), ReconstructionRegularizer()])
    assert all(torch.equal(tensor, before[name]) for name, tensor in generator.state_dict().items())
    assert [p.requires_grad for p in generator.parameters()] == flags
    assert all(p.grad is None for p in generator.parameters())
    assert not result.generator.training
    assert not any(p.requires_grad for p in result.generator.parameters())


def test_manual_layers_move_alone(generator, prior):
    result = train_generator(generator, prior, settings(), layers=ManualLayers((0, 4)))
    convs = generator.synthesis.layers
    assert moved(generator, result.generator) == trained_names(generator, [convs[0], convs[4]])


def test_layers_that_are_not_selected_in_a_step_stay(generator, prior):
    shorter = train_generator(generator, prior, settings(steps=1), layers=TopKLayers(1)).generator
    selections = set()
    for steps in range(2, 7):
        longer = train_generator(generator, prior, settings(steps=steps), layers=TopKLayers(1))
        layers = longer.history.records[-1].layers
        selected = [generator.synthesis.layers[index] for index in layers]
        assert moved(shorter, longer.generator) == trained_names(generator, selected)
        shorter = longer.generator
        selections.add(layers)


def test_adam_knows_of_a_layer_only_the_steps_that_selected_it(generator, prior):
    """A gradient of zero would move nothing (beta1 is 0) and yet decay the second moment."""
    run = GeneratorTraining(generator, prior, settings(), [], TopKLayers(2))
    selections = [train_step(run.training).layers for _ in range(4)]
    (phase,) = run.training.phases
    for index in range(7):
        times = sum(index in layers for layers in selections)
        for parameter in trained_parameters(phase.module, [index]):
            assert phase.optimizer.state.get(parameter, {}).get("step", 0) == times


def test_adam_has_the_rate_and_betas_of_the_official_runs(generator, prior):
    result = train_generator(generator, prior, settings(steps=1, learning_rate=0.002))
    for before, after in zip(generator.synthesis.layers[1:], result.generator.synthesis.layers[1:], strict=True):
        # Adam's first step is the learning rate itself wherever the gradient is not tiny.
        change = (after.weight - before.weight).abs().median().item()
        assert change == pytest.approx(0.002 * 4 / 5, rel=0.01)
    (phase,) = GeneratorTraining(generator, prior, settings(), [], AllLayers()).training.phases
    assert phase.optimizer.defaults["betas"] == (0.0, 0.99 ** (4 / 5))


def test_the_last_steps_are_smaller_in_a_cooldown(generator, prior):
    wanted = settings(steps=4, learning_rate=0.001, cooldown=0.5)
    run, rates = GeneratorTraining(generator, prior, wanted, [], AllLayers()), []
    (phase,) = run.training.phases
    for _ in range(4):
        train_step(run.training)
        rates += [group["lr"] for group in phase.optimizer.param_groups]
    assert rates == pytest.approx([0.0008, 0.0008, 0.0008, 0.0004])


def test_every_step_evaluates_the_prior_once(generator, prior):
    train_generator(generator, prior, settings(), [ReconstructionRegularizer()], TopKLayers(2))
    assert [rows for rows, _ in prior.calls] == [2, 2, 2]
    prior.calls.clear()
    train_generator(generator, prior, settings(), [DirectionalRegularizer(), ReconstructionRegularizer()])
    assert [rows for rows, _ in prior.calls] == [4, 4, 4]


def test_a_regularizer_of_weight_0_costs_nothing_and_changes_nothing(generator, prior):
    without = train_generator(generator, prior, settings())
    prior.calls.clear()
    with_zero = train_generator(generator, prior, settings(), [DirectionalRegularizer(0.0)])
    assert [rows for rows, _ in prior.calls] == [2, 2, 2]
    assert_same_weights(without.generator, with_zero.generator)


def test_the_directional_regularizer_is_zero_in_the_first_step(generator, prior):
    result = train_generator(generator, prior, settings(steps=2), [DirectionalRegularizer()])
    first, second = (record.losses["directional"] for record in result.history.records)
    assert first < 1e-9 < second


def test_the_same_seed_gives_the_same_weights_bit_for_bit(generator, prior):
    regularizers = [DirectionalRegularizer(0.5)]
    one = train_generator(generator, prior, settings(), regularizers)
    torch.manual_seed(12345)  # the global random state plays no part
    two = train_generator(generator, prior, settings(), regularizers)
    assert_same_weights(one.generator, two.generator)
    assert one.history.records == two.history.records
    other = train_generator(generator, prior, settings(seed=1), regularizers)
    assert moved(one.generator, other.generator)


def test_draws_are_a_function_of_seed_and_step():
    def draw(seed, step):
        micro_step = MicroStep(seed, step)
        noise = noise_source(micro_step, torch.device("cpu"))((2, 4, 2, 2))
        drawn = torch.cat([draw_z(micro_step, 2, 8).flatten(), noise.flatten()])
        return drawn, draw_timestep(micro_step, settings(seed=seed, t_min=0.0, t_max=1.0))

    places = [(0, 0), (0, 1), (1, 0), (1, 1), (2**40, 0), (2**64 - 1, 0)]
    draws = {place: draw(*place) for place in places}
    for place in reversed(places):
        again = draw(*place)
        assert torch.equal(again[0], draws[place][0])
        assert again[1] == draws[place][1]
    assert len({t for _, t in draws.values()}) == len(places)
    latents, _ = draws[0, 0]
    assert not torch.equal(latents[:16], latents[16:32])  # latents and noise are independent


def test_timesteps_cover_their_range():
    ts = [draw_timestep(MicroStep(3, step), settings(t_min=0.2, t_max=0.6)) for step in range(500)]
    assert 0.2 <= min(ts) < 0.22
    assert 0.58 < max(ts) <= 0.6
    assert sum(ts) / len(ts) == pytest.approx(0.4, abs=0.02)
    assert draw_timestep(MicroStep(0, 0), settings(t_min=0.5, t_max=0.5)) == 0.5


def test_several_timesteps_of_an_image_are_spread_over_the_range():
    one, four = settings(t_min=0.2, t_max=0.6), settings(t_min=0.2, t_max=0.6, timesteps_per_image=4)
    ts = [draw_timestep(MicroStep(3, 5), four, place) for place in range(4)]
    assert ts[0] == draw_timestep(MicroStep(3, 5), one)
    assert [b - a for a, b in itertools.pairwise(sorted(ts))] == pytest.approx([0.1] * 3)


def test_several_timesteps_of_an_image_cost_the_prior_alone(generator, prior):
    calls, encode, guided = [], prior.encode, prior.guided
    prior.encode = lambda *given: (calls.append("encode"), encode(*given))[1]
    prior.guided = lambda *given: (calls.append("guided"), guided(*given))[1]
    result = train_generator(generator, prior, settings(steps=2, timesteps_per_image=3))
    assert calls.count("guided") == 6 and calls.count("encode") == 2
    assert all(0.01 < record.t < 0.5 for record in result.history.records)


def test_progress_reports_every_step_and_renders_on_request(generator, prior):
    reports, images = [], []

    def follow(progress):
        reports.append(progress)
        if progress.step == 2:
            images.append(progress.samples(3))

    result = train_generator(
        generator, prior, settings(diversity_every=2), [DirectionalRegularizer()], TopKLayers(2), follow
    )
    assert [(r.step, r.steps) for r in reports] == [(1, 3), (2, 3), (3, 3)]
    assert all(len(r.layers) == 2 and set(r.losses) == {"sds", "directional"} for r in reports)
    assert [r.diversity is None for r in reports] == [True, False, False]
    assert list(result.history.diversity) == [0, 2, 3]
    assert result.history.terms == ["sds", "directional"]
    assert result.history.series("sds") == ([1, 2, 3], [r.losses["sds"] for r in reports])
    two_steps = train_generator(generator, prior, settings(steps=2), [DirectionalRegularizer()], TopKLayers(2))
    latents = sample_z(generator.z_dim, 3, seed=0)
    with torch.no_grad():
        expected = two_steps.generator.synthesis(Draw(two_steps.generator.mapping(latents)), noise="const")
    torch.testing.assert_close(images[0], expected)


def test_an_exception_in_the_callback_keeps_what_was_trained(generator, prior):
    class Cancelled(Exception):
        pass

    def cancel(progress):
        if progress.step == 3:
            raise Cancelled("by the user")

    with pytest.raises(TrainingInterrupted, match="ended after 3 of 9 steps: by the user") as caught:
        train_generator(generator, prior, settings(steps=9), progress=cancel)
    assert isinstance(caught.value.__cause__, Cancelled)
    result = caught.value.result
    assert (result.steps_done, result.interrupted, len(result.history.records)) == (3, True, 3)
    assert_same_weights(result.generator, train_generator(generator, prior, settings(steps=3)).generator)


@pytest.mark.parametrize("error", [RuntimeError("the device is gone"), KeyboardInterrupt()])
def test_an_exception_in_the_prior_keeps_what_was_trained(generator, prior, error):
    prior.faults = {2: error}
    with pytest.raises(TrainingInterrupted) as caught:
        train_generator(generator, prior, settings(steps=9))
    assert caught.value.__cause__ is error
    assert caught.value.result.steps_done == 2


def test_an_exception_before_the_first_step_is_passed_on(generator, prior):
    prior.faults = {0: RuntimeError("no model")}
    with pytest.raises(RuntimeError, match="no model"):
        train_generator(generator, prior, settings())


def test_an_exception_while_the_prior_cleans_up_keeps_what_was_trained(generator, prior):
    class Broken(Session):
        def run(self, body, request):
            body()
            raise RuntimeError("clean-up failed")

    prior.session = Broken()
    with pytest.raises(TrainingInterrupted, match="clean-up failed") as caught:
        train_generator(generator, prior, settings())
    assert caught.value.result.steps_done == 3


def test_a_step_without_finite_gradient_is_skipped_and_counted(generator, prior):
    reports = []
    prior.faults = {2: float("nan")}
    result = train_generator(generator, prior, settings(), progress=reports.append)
    assert result.history.skipped == 1
    assert "noise prediction" in reports[2].skipped
    assert (reports[2].losses, reports[2].layers) == ({}, ())
    assert result.history.series("sds")[0] == [1, 2]
    assert_same_weights(result.generator, train_generator(generator, prior, settings(steps=2)).generator)


def test_repeated_steps_without_finite_gradient_stop_with_the_last_good_weights(generator, prior):
    prior.faults = dict.fromkeys([1, 3, 4, 5, 6], float("nan"))  # a single one does not count
    with pytest.raises(TrainingDiverged) as caught:
        train_generator(generator, prior, settings(steps=20, max_skipped_in_a_row=3))
    result = caught.value.result
    assert (result.steps_done, result.history.skipped, result.interrupted) == (6, 4, True)
    assert "stopped at step 6" in str(caught.value)
    assert "as it was at step 3" in str(caught.value)
    prior.calls.clear()
    prior.faults = {1: float("nan")}
    assert_same_weights(result.generator, train_generator(generator, prior, settings(steps=3)).generator)


def test_training_works_within_inference_mode(generator, prior):
    expected = train_generator(generator, prior, settings(), [DirectionalRegularizer()])
    with torch.inference_mode():
        loaded = Generator(generator.config).eval()
        loaded.load_state_dict(generator.state_dict())
        assert next(loaded.parameters()).is_inference()
        result = train_generator(loaded, prior, settings(), [DirectionalRegularizer()])
    assert not any(tensor.is_inference() for tensor in result.generator.state_dict().values())
    assert_same_weights(result.generator, expected.generator)


def test_a_prior_may_enter_inference_mode_around_the_training(generator, prior):
    class Inferring(Session):
        @torch.inference_mode()
        def run(self, body, request):
            return body()

    prior.session = Inferring()
    assert train_generator(generator, prior, settings()).steps_done == 3


def test_what_does_not_fit_the_generator_is_named(generator, prior):
    with pytest.raises(ValueError, match="Cannot select 8 layers: this generator has 7"):
        train_generator(generator, prior, settings(), layers=TopKLayers(8))
    with pytest.raises(ValueError, match="directional regularizer is given twice with no difference but its weight"):
        train_generator(generator, prior, settings(), [DirectionalRegularizer(), DirectionalRegularizer(2.0)])
    small = {"resolution": 32, "z_dim": 16, "w_dim": 16, "channel_max": 16}
    labelled = Generator(GeneratorConfig(**small, c_dim=10))
    with pytest.raises(ValueError, match="no class 10: this generator has classes 0 to 9"):
        train_generator(labelled, prior, settings(class_index=10))
    with pytest.raises(ValueError, match="no class 0: this generator has no classes"):
        train_generator(generator, prior, settings(class_index=0))


def test_diversity_is_the_mean_distance_between_samples():
    images = torch.zeros(3, 3, 8, 8)
    images[1], images[2] = 0.5, -0.5
    assert diversity(images) == pytest.approx((0.5 + 0.5 + 1.0) / 3)
    assert diversity(torch.rand(1, 3, 64, 64).expand(4, -1, -1, -1)) == 0
