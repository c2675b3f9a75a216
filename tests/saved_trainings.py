"""Trainings that are saved, stopped and gone on with."""

import torch
from comfyui_stylegan_fusion.sds import (
    DirectionalRegularizer,
    ReconstructionRegularizer,
    TopKLayers,
    TrainSettings,
    train_generator,
)

REGULARIZERS = (DirectionalRegularizer(0.5), ReconstructionRegularizer(0.2))
SETTINGS = {"steps": 8, "batch_size": 2, "accumulation": 2, "cooldown": 0.5, "t_max": 0.8, "diversity_samples": 4}


class Stop(Exception):
    pass


def settings(**changes):
    return TrainSettings(**{**SETTINGS, "diversity_every": 2, **changes})


def stopping(at):
    def stop(progress):
        if progress.step == at:
            raise Stop

    return stop


def train(generator, prior, saved=None, stop=None, layers=None, regularizers=REGULARIZERS, **changes):
    progress = stopping(stop) if stop else None
    return train_generator(
        generator, prior, settings(**changes), regularizers, layers or TopKLayers(2), progress, saved
    )


def assert_same_result(a, b):
    for one, other in ((a.generator, b.generator), (a.best, b.best)):
        for (name, x), y in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
            assert torch.equal(x, y), name
    assert a.history == b.history
    assert (a.steps_done, a.best_step) == (b.steps_done, b.best_step)
