"""Phases that take turns: a generator-like network and a second one that learns from it."""

import pytest
import torch
from comfyui_stylegan_fusion.training.draws import MicroStep
from comfyui_stylegan_fusion.training.endings import RepeatedlySkipped
from comfyui_stylegan_fusion.training.loop import Callback, SkipLimit, Training, fit, train_step
from comfyui_stylegan_fusion.training.phases import Average, Outcome, Phase, accumulate, gradients_of
from comfyui_stylegan_fusion.training.saving import SavedTraining, SavedTrainingError, Saving
from torch import nn


class Stop(Exception):
    pass


class StopAfter(Callback):
    def __init__(self, steps):
        self.steps = steps

    def after_step(self, training):
        if training.step == self.steps:
            raise Stop


def two_networks():
    """A line that is drawn to a target, and a follower that learns what the line gives, as a second score network does:
    twice a step, with batch statistics, another optimizer, and an average."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        line, follower = nn.Linear(3, 2), nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))

    def pull(micro_steps):
        def one(micro_step):
            x = torch.randn(8, 3, generator=micro_step.rng("latents"))
            micro_step.shared["drawn"] = x, line(x).detach()
            loss = (line(x) - 3 * x[:, :2] - follower.eval()(x).detach()).square().mean()
            return Outcome(gradients_of(loss, line.parameters()), {"pull": loss.item()})

        outcome = accumulate(map(one, micro_steps), len(micro_steps))
        return Outcome(outcome.gradients, outcome.losses, {"t": micro_steps[0].step / 10, "layers": (0, 2)})

    def follow(micro_steps):
        def one(micro_step):
            x, y = micro_step.shared["drawn"]
            noise = 0.1 * torch.randn(y.shape, generator=micro_step.rng("follower"))
            loss = (follower.train()(x) - y - noise).square().mean()
            return Outcome(gradients_of(loss, follower.parameters(), max_norm=1.0), {"follow": loss.item()})

        return accumulate(map(one, micro_steps), len(micro_steps))

    adam, sgd = torch.optim.Adam(line.parameters()), torch.optim.SGD(follower.parameters(), momentum=0.9)
    return [
        Phase("line", line, adam, pull, lambda step: 0.05 / (1 + step), average=Average.of(line, lambda step: 0.9)),
        Phase("follower", follower, sgd, follow, lambda step: 0.01, repeats=2, buffers=True),
    ]


def training(steps=9, **changes):
    return Training(two_networks(), steps, **{"seed": 5, "accumulation": 2, **changes})


def everything(training):
    """Every tensor of a training, and its history."""
    found = {}
    for phase in training.phases:
        found |= {f"{phase.name} {name}": value.clone() for name, value in phase.module.state_dict().items()}
        if phase.average is not None:
            weights = phase.average.module.state_dict().items()
            found |= {f"{phase.name} average {name}": value.clone() for name, value in weights}
        for index, parameter in enumerate(phase.parameters):
            state = phase.optimizer.state[parameter].items()
            found |= {f"{phase.name} {index} {slot}": value.clone() for slot, value in state}
    return found, training.history


def assert_equal(one, other):
    (tensors, history), (others, theirs) = everything(one), everything(other)
    assert tensors.keys() == others.keys() and history == theirs
    assert all(torch.equal(value, others[name]) for name, value in tensors.items())


@pytest.mark.parametrize("stop", [1, 4, 8])
def test_two_phases_that_are_killed_and_resumed_end_bit_for_bit_alike(tmp_path, stop):
    whole = training()
    fit(whole)
    saved = SavedTraining(tmp_path / "training.safetensors", every=1)
    with pytest.raises(Stop):
        fit(training(), [Saving(saved), StopAfter(stop)])
    again = training()
    assert saved.restore(again) and again.step == stop == saved.steps_done()
    fit(again)
    assert_equal(again, whole)
    assert whole.history.terms == ["pull", "follow"] and whole.history.records[3].layers == (0, 2)


def test_the_second_network_learns_what_the_first_one_gives():
    done = training(steps=60)
    fit(done)
    losses = done.history.series("follow")[1]
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


def test_each_purpose_micro_step_and_repeat_draws_numbers_of_its_own():
    places = [MicroStep(seed, step, i, r) for seed in (0, 1) for step in (0, 1) for i in (0, 1) for r in (0, 1)]
    drawn = {torch.rand((), generator=p.rng(name)).item() for p in places for name in ("latents", "noise", "any other")}
    assert len(drawn) == 3 * len(places)
    assert torch.rand((), generator=places[0].rng("noise")) == torch.rand((), generator=places[0].rng("noise"))


def test_a_phase_without_finite_gradient_changes_nothing_and_the_others_go_on():
    run = training()
    line = run.phases[0]
    compute = line.compute
    line.compute = lambda micro_steps: Outcome({}, notes={"t": 0.5}, skipped=compute(micro_steps) and "the pull")
    before = everything(run)[0]
    record = train_step(run)
    after = everything(run)[0]
    assert record.skipped == "the pull" and set(record.losses) == {"follow"} and record.t == 0.5
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert {"line weight", "line bias"} <= same and "follower 0.weight" not in same
    with pytest.raises(RepeatedlySkipped):
        fit(run, [SkipLimit(3)])
    assert run.step == 3


def test_a_parameter_without_gradient_stays_and_so_does_what_is_remembered_of_it():
    run = training()
    line = run.phases[0]
    weight, bias = line.parameters
    train_step(run)
    compute = line.compute

    def weight_alone(micro_steps):
        outcome = compute(micro_steps)
        return Outcome({weight: outcome.gradients[weight]}, outcome.losses)

    line.compute, before = weight_alone, (bias.clone(), line.optimizer.state[bias]["step"].item())
    train_step(run)
    assert torch.equal(bias, before[0]) and line.optimizer.state[bias]["step"].item() == before[1] == 1
    assert line.optimizer.state[weight]["step"].item() == 2


def test_another_training_is_not_gone_on_with(tmp_path):
    saved = SavedTraining(tmp_path / "training.safetensors", every=1)
    fit(training(description={"settings": {"a": 1}, "kind": "x"}, steps=2), [Saving(saved)])
    for description, named in (
        ({"settings": {"a": 2}, "kind": "x"}, "a"),
        ({"settings": {"a": 1}, "kind": "y"}, "kind"),
    ):
        with pytest.raises(SavedTrainingError, match=rf"another run \(different: {named}\)"):
            saved.restore(training(description=description))


def test_what_a_failed_attempt_left_for_the_next_phase_is_gone():
    from comfyui_stylegan_fusion.training.out_of_memory import MemoryPolicy

    run, seen = training(memory=MemoryPolicy(2, True)), []
    line = run.phases[0]
    compute = line.compute

    def fail_once(micro_steps):
        seen.append([dict(micro_step.shared) for micro_step in micro_steps])
        outcome = compute(micro_steps)
        if len(seen) == 1:
            raise torch.OutOfMemoryError("no more")
        return outcome

    line.compute = fail_once
    train_step(run)
    assert seen == [[{}, {}], [{}, {}]]


def test_a_loss_that_begins_late_is_not_known_before(tmp_path):
    run, saved = training(steps=4), SavedTraining(tmp_path / "training.safetensors", every=1)
    line = run.phases[0]
    compute = line.compute

    def late(micro_steps):
        outcome = compute(micro_steps)
        more = {"late": 1.0} if micro_steps[0].step == 2 else {}
        return Outcome(outcome.gradients, {**outcome.losses, **more}, outcome.notes)

    line.compute = late
    fit(run, [Saving(saved)])
    again = training(steps=4)
    assert saved.restore(again) and again.history == run.history and again.history.series("late") == ([3], [1.0])


def test_gradients_that_share_a_tensor_are_counted_once_each():
    x, y = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    shared = torch.ones(3)  # as autograd gives for x + y
    outcomes = [Outcome({x: shared, y: shared}, {"a": 1.0}) for _ in range(3)]
    total = accumulate(outcomes, 3)
    assert torch.equal(total.gradients[x], torch.ones(3)) and torch.equal(total.gradients[y], torch.ones(3))
    clipped = gradients_of((x + y).sum(), [x, y], max_norm=1.0)
    norm = torch.cat([clipped[x], clipped[y]]).norm()
    torch.testing.assert_close(norm, torch.tensor(1.0))


@pytest.mark.parametrize("change", ["without", "renamed"])
def test_what_no_optimizer_remembers_is_damaged(tmp_path, change):
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    saved = SavedTraining(tmp_path / "training.safetensors", every=1)
    fit(training(steps=2), [Saving(saved)])
    with safe_open(saved.path, framework="pt") as file:
        notes = file.metadata()
    tensors = load_file(saved.path)
    for name in [name for name in tensors if name.endswith("exp_avg_sq")]:
        value = tensors.pop(name)
        if change == "renamed":
            tensors[name + "x"] = value
    save_file(tensors, saved.path, notes)
    with pytest.raises(SavedTrainingError, match="is damaged"):
        saved.restore(training(steps=2))
