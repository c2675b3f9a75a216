"""Going back to a moment of a training: the weights that a report takes, put back into the generator."""

import itertools

import pytest
import torch
from comfyui_stylegan_fusion.sds import TrainSettings, train_generator, with_weights
from comfyui_stylegan_fusion.stylegan import render_samples, sample_z


def drawn(generator):
    return render_samples(generator, sample_z(generator.z_dim, 3, 0))


@pytest.fixture
def moments(generator, prior):
    """Step to weights, the history's length and the generator then, of five steps."""
    taken = {}

    def take(progress):
        taken[progress.step] = (progress.weights(), len(progress.history.records), progress.result().generator)

    train_generator(generator, prior, TrainSettings(steps=5, learning_rate=0.01), progress=take)
    return taken


def test_the_generator_with_a_moments_weights_is_the_generator_of_that_moment(generator, moments):
    for step, (weights, _, then) in moments.items():
        assert torch.equal(drawn(with_weights(generator, weights)), drawn(then)), step
    pictures = [drawn(then) for *_, then in moments.values()]
    assert not any(torch.equal(a, b) for a, b in itertools.pairwise(pictures))


def test_the_given_generator_stays_as_it_is(generator, moments):
    before = drawn(generator)
    with_weights(generator, moments[5][0])
    assert torch.equal(drawn(generator), before)


def test_a_moment_has_the_trained_parameters_alone(generator, moments):
    names = set(moments[1][0])
    assert names and names < {name for name, _ in generator.named_parameters()}
    assert not any("mapping" in name or name.endswith("bias") for name in names)


def test_weights_of_another_generator_are_refused(generator, moments):
    weights = moments[1][0]
    name = next(iter(weights))
    with pytest.raises(ValueError, match="do not belong to this generator"):
        with_weights(generator, {name: weights[name][..., :1]})
    with pytest.raises(ValueError, match="do not belong to this generator: other"):
        with_weights(generator, {"other": weights[name]})


def test_the_history_until_a_moment_is_what_it_was_then(generator, prior):
    lengths, settings = [], TrainSettings(steps=6, diversity_every=2)
    result = train_generator(
        generator, prior, settings, progress=lambda progress: lengths.append(len(progress.history.records))
    )
    assert lengths == [1, 2, 3, 4, 5, 6]
    then = result.history.until(3)
    assert [record.step for record in then.records] == [1, 2, 3]
    assert list(then.diversity) == [0, 2] and list(result.history.diversity) == [0, 2, 4, 6]
