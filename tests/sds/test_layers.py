"""Layer selection: which convolutions may change, and how they are ranked."""

import pytest
import torch
from comfyui_stylegan_fusion.sds import AllLayers, ManualLayers, TopKLayers, TrainSettings, train_generator
from comfyui_stylegan_fusion.sds.draws import draw_timestep, draw_z, noise_source
from comfyui_stylegan_fusion.sds.objective import prior_input
from comfyui_stylegan_fusion.stylegan import Draw
from comfyui_stylegan_fusion.training.draws import MicroStep


def test_all_layers_are_those_from_8x8_up():
    assert AllLayers().selectable(7) == (1, 2, 3, 4, 5, 6)


def test_manual_layers_are_taken_in_order_and_once():
    assert ManualLayers((4, 0, 4)).selectable(7) == (0, 4)


def test_layers_that_the_generator_lacks_are_named():
    with pytest.raises(ValueError, match="no layer 7: this generator's layers are numbered 0 to 6"):
        ManualLayers((1, 7)).selectable(7)
    with pytest.raises(ValueError, match="Cannot select 8 layers: this generator has 7"):
        TopKLayers(8).selectable(7)


def test_top_k_ranks_by_mean_movement_and_leaves_out_the_last_code():
    gradient = torch.zeros(2, 8, 16)
    gradient[:, 7] = 100.0  # feeds only the last ToRGB
    gradient[0, 2], gradient[1, 2] = 3.0, -3.0  # opposite signs in the batch do not cancel
    gradient[:, 5, 0] = 32.0  # one large entry: mean 2
    gradient[:, 1] = 1.0
    assert TopKLayers(2).choose(tuple(range(7)), gradient, None) == (2, 5)


def test_further_selection_steps_start_where_the_last_one_ended():
    first = torch.zeros(1, 4, 1)
    first[0, 0] = 5.0
    shifts = []

    def gradient_at(shift):
        shifts.append(shift.clone())
        gradient = torch.zeros(1, 4, 1)
        gradient[0, 0], gradient[0, 2] = -5.0, 4.0  # layer 0 moves back
        return gradient

    assert TopKLayers(1, steps=2).choose((0, 1, 2), first, gradient_at) == (2,)
    torch.testing.assert_close(shifts, [-0.01 * first])


SETTINGS = TrainSettings(
    steps=1, batch_size=2, t_max=0.8, gradient_clamp=None, image_clamp_quantile=None, diversity_samples=2
)


class FirstStep:
    """The first training step's timestep, codes and noise, and the gradient by autograd of one plain expression."""

    def __init__(self, generator, prior):
        self.generator, self.prior, first = generator, prior, MicroStep(SETTINGS.seed, 0)
        self.t = draw_timestep(first, SETTINGS)
        self.draw_noise = noise_source(first, prior.device)
        self.ws = generator.mapping(draw_z(first, SETTINGS.batch_size, generator.z_dim)).detach()

    def code_gradient(self, code):
        """Each sample's own gradient, with the next noise."""
        code = code.detach().requires_grad_()
        z = self.prior.encode(prior_input(self.generator.synthesis(Draw(code), noise="const"), self.prior.image_size))
        eps = self.draw_noise(z.shape)
        alpha, sigma = self.prior.schedule(self.t)
        g = sigma**2 * (self.prior.guided(alpha * z.detach() + sigma * eps, self.t) - eps)
        return torch.autograd.grad((z * g).sum(), code)[0]


@pytest.mark.parametrize("selection_steps", [1, 3])
def test_top_k_in_training_agrees_with_explicit_sgd_on_the_code(generator, prior, selection_steps):
    step = FirstStep(generator, prior)
    code = step.ws.clone()
    for _ in range(selection_steps):
        code -= 0.01 * step.code_gradient(code)
    movement = (code.double() - step.ws.double()).abs().mean((0, 2))
    expected = movement[:-1].topk(3).indices.sort().values.tolist()

    prior.calls.clear()
    result = train_generator(generator, prior, SETTINGS, layers=TopKLayers(3, selection_steps))
    assert result.history.records[0].layers == tuple(expected)
    assert prior.calls == [(2, step.t)] * selection_steps  # the first selection step is free


def test_layer_choices_see_each_samples_own_gradient_with_fresh_noise(generator, prior):
    class Spy(AllLayers):
        needs_code_gradient = True

        def choose(self, selectable, gradient, gradient_at):
            seen.extend([gradient, gradient_at(torch.zeros_like(gradient)), gradient_at(-gradient)])
            return selectable

    seen, step = [], FirstStep(generator, prior)
    train_generator(generator, prior, SETTINGS, layers=Spy())
    first = step.code_gradient(step.ws)
    expected = [first, step.code_gradient(step.ws), step.code_gradient(step.ws - first)]
    torch.testing.assert_close(seen, expected, rtol=1e-3, atol=1e-5)
