"""Run by ComfyUI's Python in ComfyUI's folder: models of every type that know the data's distribution exactly.

Arguments: the project's folder, a safetensors file with z, eps and mean, the file to write, and as JSON the timesteps, the
data's standard deviation and a guidance scale. The data are Gaussian, N(mean + c, deviation^2) for a prompt that says c."""

import json
import math
import sys

from in_host import start

project, source, target, request = sys.argv[1:]
request = json.loads(request)
start(project)

import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.model_sampling
import comfy.samplers
import comfy.supported_models
import comfy.supported_models_base
import comfy_extras.nodes_custom_sampler as custom_sampler
import torch
from comfy.model_base import ModelType
from project.nodes.host import native_miniature
from project.nodes.host.families import native_size
from project.nodes.host.guiders import text_guider
from project.nodes.host.prior import ComfyPrior
from project.sds.objective import Objective
from project.sds.terms import ScoreDistillation
from project.training.memory import MemoryRequest
from safetensors.torch import load_file, save_file

given, found = load_file(source), {}
DEVIATION = request["deviation"]
PATCHER = getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)


# What an ideal model answers to its input, by the definition of each parametrization: `means` of data and noise given
# the input, where input = alpha data + sigma noise.


def means(x, alpha, sigma, mean):
    spread = alpha**2 * DEVIATION**2 + sigma**2
    data = mean + alpha * DEVIATION**2 * (x - alpha * mean) / spread
    noise = sigma * (x - alpha * mean) / spread
    return data, noise


def noise_prediction(x, t, mean, sampling):
    """Ho et al. 2020: of variance-preserving input, at a step whose ratio of noise to data is sampling.sigma(t)."""
    ratio = float(sampling.sigma(t[0]))
    alpha, sigma = 1 / math.sqrt(1 + ratio**2), ratio / math.sqrt(1 + ratio**2)
    return means(x, alpha, sigma, mean)[1]


def cosine_noise_prediction(x, t, mean, sampling):
    """Nichol and Dhariwal 2021: at a time in [0, 1] of the cosine schedule, whatever steps a sampler takes."""
    signal = (math.cos((float(t[0]) + 0.008) / 1.008 * math.pi / 2) / math.cos(0.008 / 1.008 * math.pi / 2)) ** 2
    return means(x, math.sqrt(signal), math.sqrt(1 - signal), mean)[1]


def velocity(x, t, mean, sampling):
    """Salimans and Ho 2022: alpha noise - sigma data."""
    ratio = float(sampling.sigma(t[0]))
    alpha, sigma = 1 / math.sqrt(1 + ratio**2), ratio / math.sqrt(1 + ratio**2)
    data, noise = means(x, alpha, sigma, mean)
    return alpha * noise - sigma * data


def angular_velocity(x, t, mean, sampling):
    """The same at an angle t pi/2 of a quarter circle."""
    alpha, sigma = math.cos(float(t[0]) * math.pi / 2), math.sin(float(t[0]) * math.pi / 2)
    data, noise = means(x, alpha, sigma, mean)
    return alpha * noise - sigma * data


def preconditioned(x, t, mean, sampling):
    """Karras et al. 2022, table 1: F of D(y) = c_skip y + c_out F(c_in y; ln(sigma)/4)."""
    sigma, d = math.exp(4 * float(t[0])), sampling.sigma_data
    c_skip, c_out = d**2 / (sigma**2 + d**2), sigma * d / math.sqrt(sigma**2 + d**2)
    y = x * math.sqrt(sigma**2 + d**2)
    return (means(y, 1, sigma, mean)[0] - c_skip * y) / c_out


def flow(multiplier):
    """Liu et al. 2022: noise - data on the straight line between them, at `multiplier` times the share of noise."""

    def answer(x, t, mean, sampling):
        share, size = float(t[0]) / multiplier, getattr(sampling, "noise_scale", 1.0)
        data, noise = means(x, 1 - share, share * size, mean)
        return size * noise - data

    return answer


class Ideal(torch.nn.Module):
    dtype = torch.float32

    def __init__(self, answer, sampling):
        super().__init__()
        self.answer, self.sampling = answer, [sampling]  # in a list: no part of this module

    def forward(self, x, t, context=None, **_):
        says = context[:, 0, 0].view(-1, *[1] * (x.ndim - 1))
        mean = given["mean"].view(1, 4, *[1] * (x.ndim - 4), *x.shape[-2:])
        return self.answer(x, t, mean + says, self.sampling[0])


class Config(comfy.supported_models_base.BASE):
    latent_format = comfy.latent_formats.SD15


class Film(comfy.latent_formats.LatentFormat):
    latent_dimensions = 3


def ideal_model(kind, answer, settings=None, latent_format=None, sampling=None):
    config = Config({"disable_unet_model_creation": True})
    config.sampling_settings = settings or {}
    if latent_format is not None:
        config.latent_format = latent_format()
    model = comfy.model_base.BaseModel(config, model_type=kind)
    if sampling is not None:
        model.model_sampling = sampling(config)
    model.diffusion_model = Ideal(answer, model.model_sampling)
    device = comfy.model_management.get_torch_device()
    return PATCHER(model, load_device=device, offload_device=torch.device("cpu"))


class DiscreteEDM(comfy.model_sampling.ModelSamplingDiscreteEDM, comfy.model_sampling.EDM):
    pass


SD3 = {"shift": 3.0}
MODELS = {
    "eps": (ModelType.EPS, noise_prediction),
    "v": (ModelType.V_PREDICTION, velocity),
    "v, zero terminal signal": (ModelType.V_PREDICTION, velocity, {"zsnr": True}),
    "v, EDM schedule": (ModelType.V_PREDICTION_EDM, velocity, {"sigma_max": 700.0}),
    "v, continuous": (ModelType.V_PREDICTION_CONTINUOUS, angular_velocity, {"sigma_min": 0.01, "sigma_max": 500.0}),
    "EDM": (ModelType.EDM, preconditioned, {"sigma_data": 0.5, "sigma_max": 80.0}),
    "EDM, discrete": (ModelType.EDM, preconditioned, {}, None, DiscreteEDM),
    "cascade": (ModelType.STABLE_CASCADE, cosine_noise_prediction, {"shift": 2.0}),
    "flow": (ModelType.FLOW, flow(1000), SD3),
    "flow of films": (ModelType.FLOW, flow(1000), SD3, Film),
    "flow, t in [0, 1]": (ModelType.FLOW, flow(1.0), {"shift": 6.0, "multiplier": 1.0}),
    "flow, large noise": (ModelType.FLOW, flow(1000), {"shift": 3.0, "noise_scale": 2.0}),  # 1 on older hosts
    "flux": (ModelType.FLUX, flow(1.0), {"shift": 1.15}),
    "cosmos": (ModelType.FLOW_COSMOS, flow(1.0), {"sigma_min": 0.002, "sigma_max": 80.0}),
}


def says(value):
    return [[torch.full([1, 3, 8], float(value)), {}]]


def each_gradient(name, prior):
    objective = Objective(prior, [ScoreDistillation()], gradient_clamp=None, image_clamp_quantile=None)
    for t in request["timesteps"]:
        found[f"{name} {t} schedule"] = torch.tensor(prior.schedule(t), dtype=torch.float64)
        found[f"{name} {t} gradient"] = objective.latent_gradient(objective.view(given["z"], None, t, given["eps"]))[0]


def guided_by(name, prior):
    t = request["timesteps"][1]
    found["guiders schedule"] = torch.tensor(prior.schedule(t), dtype=torch.float64)
    found[f"{name} guided"] = prior.guided(given["z"], t)
    if prior.can_scale:
        found[f"{name} guided, scaled"] = prior.guided(given["z"], t, 0.5)
    else:
        try:
            prior.guided(given["z"], t, 0.5)
        except ValueError as error:
            notes[f"{name} scaled"] = str(error)
    found[f"{name} guided again"] = prior.guided(given["z"], t)
    for condition, eps in prior.conditions(given["z"], t).items():
        found[f"{name} condition {condition}"] = eps


def run(prior, body, *arguments):
    with torch.inference_mode(False), torch.enable_grad():
        prior.session.run(lambda: body(*arguments, prior), MemoryRequest(rows=len(given["z"]), height=64, width=96))


notes = {}
with torch.inference_mode():  # as nodes run
    vae = native_miniature.load_vae()
    for name, parts in MODELS.items():
        guider = text_guider(ideal_model(*parts), says(0), says(0), 1.0)
        run(ComfyPrior(guider, vae, 64), each_gradient, name)

    model, s = ideal_model(*MODELS["eps"]), request["scale"]
    basic = custom_sampler.Guider_Basic(model)
    basic.set_conds(says(1))
    dual = custom_sampler.Guider_DualCFG(model)
    dual.set_conds(says(1), says(2), says(0))
    dual.set_cfg(s, 2 * s)
    guiders = {
        "text": text_guider(model, says(1), says(0), s),
        "unguided": text_guider(model, says(1), says(0), 1.0),
        "extras": text_guider(model, says(1), says(0), s, [("domain", says(3), 0.5), ("style", says(-1), 2.0)]),
        "extras at 1": text_guider(model, says(1), says(0), 1.0, [("domain", says(3), -0.5)]),
        "basic": basic,
        "dual": dual,
    }
    for name, guider in guiders.items():
        before = dict(vars(guider))
        texts = {key: cond[0]["cross_attn"] for key, cond in guider.original_conds.items()}
        run(ComfyPrior(guider, vae, 64), guided_by, name)
        same = vars(guider) == before and all(texts[k] is c[0]["cross_attn"] for k, c in guider.original_conds.items())
        notes[f"{name} unchanged"] = str(same)

    refused = {"image to image": (ModelType.IMG_TO_IMG, lambda *_: None)}
    if hasattr(ModelType, "IMG_TO_IMG_FLOW"):
        refused["image to image, flow"] = (ModelType.IMG_TO_IMG_FLOW, lambda *_: None)
    for name, parts in refused.items():
        try:
            ComfyPrior(text_guider(ideal_model(*parts), says(0), says(0), 1.0), vae, 64)
            notes[f"refused {name}"] = "no"
        except ValueError as error:
            notes[f"refused {name}"] = str(error)

    def torn(*_):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied (77x768 and 2048x320)")

    try:
        run(
            ComfyPrior(text_guider(ideal_model(ModelType.EPS, torn), says(0), says(0), 1.0), vae, 64),
            each_gradient,
            "torn",
        )
    except ValueError as error:
        notes["misfit"] = f"{error} / {type(error.__cause__).__name__}"

    # What the host is told to make room for, with the least that it asks for an evaluation.
    asked = []
    load = comfy.model_management.load_models_gpu

    def noted(models, **named):
        asked.append(named)
        return load(models, **named)

    comfy.model_management.load_models_gpu = noted
    evaluation = model.model.memory_required([2, 4, 16, 24])
    prior = ComfyPrior(text_guider(model, says(1), says(0), s), vae, 64)
    for resident, peak in ((0, 0), (10**9, 0), (10**9, 10**12)):
        with torch.inference_mode(False), torch.enable_grad():
            prior.session.run(
                lambda: None, MemoryRequest(rows=1, height=64, width=96, resident_bytes=resident, peak_bytes=peak)
            )
    notes["asked"] = json.dumps([named["memory_required"] for named in asked if named])
    notes["asked at least"] = json.dumps([named["minimum_memory_required"] for named in asked if named])
    notes["evaluation"] = json.dumps(evaluation)
    notes["evaluation afterwards"] = json.dumps(model.model.memory_required([2, 4, 16, 24]))

    # The size of images that each family was made for.
    for name in request["families"]:
        family, _, velocity_type = name.partition(", ")
        config = getattr(comfy.supported_models, family)({"disable_unet_model_creation": True, "image_size": 32})
        kind = ModelType.V_PREDICTION if velocity_type else ModelType.EPS
        made = comfy.model_base.BaseModel(config, model_type=kind)
        patcher = PATCHER(made, load_device=torch.device("cpu"), offload_device=torch.device("cpu"))
        notes[f"size {name}"] = str(native_size(patcher, 8))

save_file({name: value.detach().clone().contiguous() for name, value in found.items()}, target, notes)
