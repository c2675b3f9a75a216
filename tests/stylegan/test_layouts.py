"""Generators in the layouts and wrappings that circulate: the right picture, or a sentence that names what it is."""

import argparse
import collections

import numpy as np
import pytest
import torch
from comfyui_stylegan_fusion.stylegan import CheckpointError, load_checkpoint, load_generator
from foreign_files import (
    STYLEGAN3_R,
    STYLEGAN3_T,
    Persistent,
    _as_if_defined_there,
    build,
    dump,
    nvlabs_generator,
    rosinality_state,
    save_nvlabs,
    save_tensorflow,
    small,
)
from foreign_layouts import (
    Whole,
    basicsr_state,
    behind,
    encoder_state,
    genforce_state,
    mmgeneration_state,
    nvlabs_state,
    save_whole,
    standard,
)
from safetensors.torch import save_file


def assert_pictures(path, generator, psi=0.7):
    """That the file draws what the generator draws; without truncation where the file has no average."""
    checkpoint = load_checkpoint(path)
    z = torch.randn(2, generator.z_dim, generator=torch.Generator().manual_seed(5))
    wanted, drawn = generator(z, truncation_psi=psi), checkpoint.generator(z, truncation_psi=psi)
    assert (wanted - drawn).abs().max() < 2e-6 * wanted.abs().max()
    return checkpoint


def save(content, path, legacy=False):
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


def trained(state):
    """The same network before averaging: another picture."""
    return {name: value + 0.5 for name, value in state.items()}


# --- layouts -------------------------------------------------------------------------------------------------------

LAYOUTS = {
    "rosinality StyleGAN2": (standard, rosinality_state, 1.0),
    "BasicSR StyleGAN2": (standard, basicsr_state, 1.0),
    "MMGeneration StyleGAN2": (standard, mmgeneration_state, 1.0),
    "GenForce StyleGAN2": (standard, genforce_state, 0.7),
    "NVlabs StyleGAN2": (lambda: small(c_dim=3), nvlabs_state, 0.7),
    "NVlabs StyleGAN3": (lambda: build(STYLEGAN3_T), nvlabs_state, 0.7),
}


def test_every_layout_is_read_from_a_state_dictionary_alone(tmp_path):
    for title, (make, state, psi) in LAYOUTS.items():
        generator = make()
        if generator.c_dim:
            continue
        for kind in ("pt", "legacy.pt", "safetensors"):
            path = tmp_path / f"{title}.{kind}"
            if kind == "safetensors":
                save_file({name: value.contiguous() for name, value in state(generator).items()}, path)
            else:
                save(state(generator), path, legacy="legacy" in kind)
            assert assert_pictures(path, generator, psi).format == title


def test_a_state_dictionary_of_a_conditional_generator_draws_its_classes(tmp_path):
    generator = small(c_dim=3)
    loaded = load_generator(save(nvlabs_state(generator), tmp_path / "classes.pt"))
    z, label = torch.randn(3, generator.z_dim), torch.eye(3)
    assert loaded.config == generator.config
    assert torch.allclose(loaded(z, label=label), generator(z, label=label), atol=1e-5)


@pytest.mark.parametrize("config", [STYLEGAN3_T, STYLEGAN3_R], ids=["T", "R"])
def test_the_sizes_of_stylegan3_follow_from_shapes(tmp_path, config):
    generator = build(config)
    save({"g_ema": nvlabs_state(generator)}, tmp_path / "g.pt")
    loaded = assert_pictures(tmp_path / "g.pt", generator).generator.config
    assert loaded.conv_kernel == config.conv_kernel and loaded.use_radial_filters == config.use_radial_filters


WRAPPINGS = {
    "g_ema": lambda s: {"g_ema": s},
    "G_ema beside g": lambda s: {"g": trained(s), "G_ema": s},
    "g_ema that is None beside g": lambda s: {"g_ema": None, "g": s},
    "params_ema": lambda s: {"params": trained(s), "params_ema": s},
    "state_dict": lambda s: {"state_dict": s, "epoch": 3},
    "model": lambda s: {"model": s},
    "model within state": lambda s: {"state": {"model": {"g_ema": s}}},
    "module.": lambda s: {"g_ema": behind("module.", s)},
    "_orig_mod.": lambda s: {"g_ema": behind("_orig_mod.", s)},
    "generator_ema. beside generator.": lambda s: {
        "state_dict": {
            **behind("generator.", trained(s)),
            **behind("generator_ema.module.", s),
            **behind("discriminator.convs.0.", {"weight": torch.ones(2)}),
            "generator_ema.steps": torch.tensor(7),
            "loss.vgg.features.0.weight": torch.ones(2),
        }
    },
    "generator_smooth": lambda s: {"models": {"generator": trained(s), "generator_smooth": s}},
    "a list of three": lambda s: [trained(s), {"final_linear.0.weight": torch.ones(2)}, s],
    "optimizers and counters": lambda s: {
        "g_optim": {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 1e-3}]},
        "scheduler": {"milestones": collections.Counter([3, 5]), "last": collections.deque([1])},
        "g_ema": s,
        "args": argparse.Namespace(size=32),
    },
}


@pytest.mark.parametrize("name", WRAPPINGS)
def test_wrappings(tmp_path, name):
    generator = standard()
    assert_pictures(save(WRAPPINGS[name](rosinality_state(generator)), tmp_path / "g.pt"), generator, psi=1.0)


# --- encoders for editing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [None, 8])
@pytest.mark.parametrize("part", ["encoder", "hypernet"])
def test_the_decoder_and_the_average_of_an_encoder_checkpoint(tmp_path, rows, part):
    generator = standard()
    average = generator.mapping.w_avg.clone()
    content = {
        "state_dict": {
            **{name.replace("encoder", part): value for name, value in encoder_state().items()},
            **behind("decoder.", rosinality_state(generator)),
        },
        "latent_avg": average if rows is None else average.repeat(rows, 1),
        "opts": {"device": "cuda:0", "output_size": 32, "label_nc": 0, "lr": 1e-4},
        "best_val_loss": None,
    }
    assert_pictures(save(content, tmp_path / "e4e.pt"), generator)


def test_the_decoder_of_a_stylegan3_encoder(tmp_path):
    generator = build(STYLEGAN3_R)
    state = {**encoder_state(), **behind("decoder.", nvlabs_state(generator))}
    average = torch.full((16,), 9.0)  # the decoder's own counts
    assert_pictures(save({"state_dict": state, "latent_avg": average}, tmp_path / "restyle.pt"), generator)


AVERAGES = {
    "inside": lambda s, a: {"g_ema": {**s, "latent_avg": a}},
    "beside a bare dictionary": lambda s, a: {**s, "latent_avg": a},
    "a row for each layer": lambda s, a: {"g_ema": s, "latent_avg": a.repeat(8, 1)},
    "one row": lambda s, a: {"g_ema": s, "mean_latent": a[None]},
    "numpy": lambda s, a: {"g_ema": s, "latent_avg": a.numpy()},
    "numpy in double precision, by columns": lambda s, a: {
        "g_ema": s,
        "latent_avg": np.asfortranarray(a.repeat(8, 1).double().numpy()),
    },
    "a parameter": lambda s, a: {"g_ema": s, "latent_avg": torch.nn.Parameter(a)},
    "around the wrapper": lambda s, a: {"model": {"g_ema": s}, "latent_avg": a},
    "behind a prefix": lambda s, a: {"state_dict": {**behind("decoder.", s), "latent_avg": a}},
}


@pytest.mark.parametrize("name", AVERAGES)
def test_no_average_is_dropped(tmp_path, name):
    generator = standard()
    content = AVERAGES[name](rosinality_state(generator), generator.mapping.w_avg.clone())
    assert_pictures(save(content, tmp_path / "g.pt"), generator)


@pytest.mark.parametrize(
    "average, message",
    [
        (torch.randn(8, 16), "an average of w, 'latent_avg', that differs from layer to layer"),
        (torch.randn(12), r"an average of w, 'latent_avg', of shape \[12\], where 16 numbers belong"),
    ],
)
def test_an_average_that_does_not_fit_is_said(tmp_path, average, message):
    save({"g_ema": rosinality_state(standard()), "latent_avg": average}, tmp_path / "g.pt")
    with pytest.raises(CheckpointError, match=message):
        load_generator(tmp_path / "g.pt")


# --- modules saved whole -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("kind", ["alone", "G_ema", "a tuple"])
def test_modules_of_nvlabs_in_files_of_torch(tmp_path, kind, legacy):
    generator, other = small(), small(seed=3)
    content = {
        "alone": lambda: nvlabs_generator(generator),
        "G_ema": lambda: {"G": nvlabs_generator(other), "G_ema": nvlabs_generator(generator)},
        "a tuple": lambda: (nvlabs_generator(other), Persistent("Discriminator"), nvlabs_generator(generator)),
    }[kind]()
    with _as_if_defined_there():
        save(content, tmp_path / "pivot.pt", legacy)
    assert assert_pictures(tmp_path / "pivot.pt", generator).generator.config == generator.config


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("wrap", [lambda m: m, torch.nn.DataParallel, lambda m: {"g_ema": m}, lambda m: {"netG": m}])
def test_modules_of_other_programs(tmp_path, wrap, legacy):
    generator = standard()
    path = save_whole(wrap(Whole(rosinality_state(generator))), tmp_path / "whole.pt", legacy)
    assert_pictures(path, generator, psi=1.0)


def test_a_class_that_is_called_is_refused_even_beside_a_module_of_it(tmp_path):
    from hostile_files import Call, pickled

    (tmp_path / "g.pkl").write_bytes(pickled({"G_ema": {}, "extra": Call("model.Whole", "touch executed")}))
    with pytest.raises(CheckpointError, match=r"is refused: it names model\.Whole"):
        load_generator(tmp_path / "g.pkl")


# --- settings that pickles state -----------------------------------------------------------------------------------


def test_another_learning_rate_of_the_mapping_is_the_same_generator(tmp_path):
    generator = small()

    def change(state):
        for layer in state["_modules"]["mapping"].meta["state"]["_modules"].values():
            layer.meta["state"]["bias_gain"] = 0.1
            for value in layer.meta["state"]["_parameters"].values():
                value.data.mul_(0.1)

    assert_pictures(save_nvlabs(generator, tmp_path / "g.pkl", change), generator)
    generator = small(conv_clamp=None)
    for layer in generator.mapping.layers:
        layer.weight.mul_(0.1), layer.bias.mul_(0.1)
    path = save_tensorflow(generator, tmp_path / "tf.pkl", mapping_lrmul=0.1)
    for layer in generator.mapping.layers:
        layer.weight.mul_(10), layer.bias.mul_(10)
    assert_pictures(path, generator)


def test_another_filter_is_named(tmp_path):
    generator = standard()
    state = rosinality_state(generator)
    state["convs.0.conv.blur.kernel"] = torch.ones(4, 4) / 4
    save({"g_ema": state}, tmp_path / "g.pt")
    with pytest.raises(CheckpointError, match=r"another low-pass filter \('convs\.0\.conv\.blur\.kernel'\)"):
        load_generator(tmp_path / "g.pt")


# --- a generator's own part is read wholly, or not at all ----------------------------------------------------------


def _swagan(state):
    for name in [name for name in state if name.startswith("to_rgb") and "conv.weight" in name]:
        state[name] = state[name].repeat(1, 4, 1, 1, 1)
    return {**state, "iwt.ll": torch.ones(2, 2), "to_rgbs.0.iwt.ll": torch.ones(2, 2)}


MORE = {
    "SWAGAN": (_swagan, "a SWAGAN generator, which draws wavelets"),
    "wavelets without their filters": (
        lambda s: {
            k: v.repeat(1, 4, 1, 1, 1) if k.endswith("1.conv.weight") and "rgb" in k else v for k, v in s.items()
        },
        "puts out 12 channels",
    ),
    "labels": (
        lambda s: {**s, "style.0.weight": torch.ones(3), "label_embed.weight": torch.ones(3)},
        "a conditional fork",
    ),
    "another mapping layer": (
        lambda s: {**s, "style.0.weight": torch.ones(3)},
        "but has 'style.0.weight', which that has not",
    ),
    "BlendGAN": (lambda s: {**s, "embedding.1.weight": torch.ones(3)}, "a BlendGAN generator"),
    "attention": (
        lambda s: {**s, "attns.1.to_q.weight": torch.ones(3)},
        r"but has 'attns\.1\.to_q\.weight', which that has not",
    ),
    "DualStyleGAN": (
        lambda s: {**behind("generator.", s), "style.1.weight": torch.ones(3), "res.0.conv.0.weight": torch.ones(3)},
        "a DualStyleGAN generator",
    ),
    "StyleCariGAN": (
        lambda s: {**s, "deformation_blocks_PC.progression.0.conv1.weight": torch.ones(3)},
        "a StyleCariGAN",
    ),
    "MobileStyleGAN": (
        lambda s: {**behind("synthesis_net.", s), "student.conv1.weight": torch.ones(3)},
        "a MobileStyleGAN generator",
    ),
    "an unknown network around": (
        lambda s: {**behind("generator.", s), "painter.0.weight": torch.ones(3)},
        r"a larger network around a generator of rosinality StyleGAN2, with 'painter\.0\.weight'",
    ),
}


@pytest.mark.parametrize("name", MORE)
def test_a_network_that_is_more_than_a_generator_is_refused(tmp_path, name):
    change, message = MORE[name]
    save({"g_ema": change(rosinality_state(standard()))}, tmp_path / "g.pt")
    with pytest.raises(CheckpointError, match=message):
        load_generator(tmp_path / "g.pt")


def test_modules_that_a_pickle_has_beyond_the_generator_are_refused(tmp_path):
    def add(name, **parameters):
        def change(state):
            inner = Persistent(
                "Extra",
                _parameters={key: torch.nn.Parameter(value) for key, value in parameters.items()},
                _buffers={},
                _modules={},
            )
            state["_modules"][name] = inner

        return change

    for name, message in {
        "superresolution": r"looks like NVlabs StyleGAN2, but has 'superresolution\.weight'",
        "painter": r"looks like NVlabs StyleGAN2, but has 'painter\.weight'",
    }.items():
        with pytest.raises(CheckpointError, match=message):
            load_generator(save_nvlabs(small(), tmp_path / "g.pkl", add(name, weight=torch.ones(3))))


def test_variables_that_a_tensorflow_network_has_beyond_the_generator_are_refused(tmp_path, monkeypatch):
    import foreign_files

    whole = foreign_files.tensorflow_network

    def more(generator, **settings):
        network = whole(generator, **settings)
        network.components["synthesis"].variables.append(("8x8/Attention/weight", np.ones((3, 3), np.float32)))
        return network

    monkeypatch.setattr(foreign_files, "tensorflow_network", more)
    with pytest.raises(CheckpointError, match="but has '8x8/Attention/weight', which that has not"):
        load_generator(save_tensorflow(small(conv_clamp=None), tmp_path / "g.pkl"))


# --- what is something else is named -------------------------------------------------------------------------------

NAMED = {
    "lucidrains": ("GAN.G.blocks.0.to_style1.weight", "lucidrains' stylegan2-pytorch"),
    "StyleGAN1": ("generator.progression.0.conv1.conv.weight", "a StyleGAN1 generator"),
    "StyleGAN1 of GenForce": ("synthesis.layer0.apply_noise.weight", "a StyleGAN1 generator"),
    "FastGAN": ("module.init.init.0.weight_orig", r"a FastGAN \(or projected FastGAN\) generator"),
    "MobileStyleGAN": ("student.to_img1.bias", "a MobileStyleGAN generator"),
    "GFPGAN": ("stylegan_decoder.style_conv1.bias", "a GFPGAN network"),
    "encoder": ("encoder.input_layer.0.weight", "an encoder without the generator"),
    "discriminator": ("final_linear.0.weight", "a discriminator without its generator"),
    "LoRA": ("lora_unet_down_blocks_0_attentions_0.lora_up.weight", "a LoRA of a diffusion model"),
    "diffusion model": (
        "model.diffusion_model.input_blocks.0.0.weight",
        "a diffusion model; load it with ComfyUI's own",
    ),
    "diffusers": ("down_blocks.0.resnets.0.conv1.weight", "a diffusion model"),
    "VAE": ("decoder.conv_in.weight", "a VAE"),
    "text encoder": ("text_model.encoder.layers.0.mlp.fc1.weight", "a text encoder"),
    "VGG": ("features.0.weight", "a network that compares pictures"),
    "directions": ("eigvec", "edit directions of a generator"),
    "latents": ("ws", "latents of a generator"),
    "unknown": ("some.layer.weight", r"does not know, with 'some\.layer\.weight'; choose a file of a plain StyleGAN2"),
}


@pytest.mark.parametrize("name", NAMED)
def test_another_network_is_named_from_one_key(tmp_path, name):
    key, message = NAMED[name]
    paths = [tmp_path / "a.pt", tmp_path / "b.safetensors"]
    save({key: torch.ones(3)}, paths[0])
    save_file({key: torch.ones(3)}, paths[1])
    for path in paths:
        with pytest.raises(CheckpointError, match=message) as caught:
            load_generator(path)
        assert "damaged" not in str(caught.value)


AROUND = {
    "StyleGAN-XL with classes": ("mapping.embed_proj.weight", "a StyleGAN-XL generator with classes"),
    "GANformer": ("synthesis.b8.conv0.transformer.to_queries.weight", "a GANformer generator"),
}


@pytest.mark.parametrize("name", AROUND)
def test_networks_that_begin_as_nvlabs_are_named(tmp_path, name):
    key, message = AROUND[name]
    with pytest.raises(CheckpointError, match=message):
        load_generator(save({**nvlabs_state(small()), key: torch.ones(3)}, tmp_path / "g.pt"))


def test_the_superresolution_of_stylegan_xl_is_no_stylegan3(tmp_path):
    state = nvlabs_state(build(STYLEGAN3_T))
    first = next(name for name in state if name.startswith("synthesis.L5_")).split(".")[1]
    renamed = {name.replace(f".{first}.", ".L5_99_16."): value for name, value in state.items()}
    with pytest.raises(
        CheckpointError, match=r"other layers than a StyleGAN3 generator of its sizes \('synthesis\.L5_99_16"
    ):
        load_generator(save(renamed, tmp_path / "xl.pt"))


def test_an_optimizer_alone_is_named(tmp_path):
    layer = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(layer.parameters())
    layer(torch.ones(2)).sum().backward()
    optimizer.step()
    with pytest.raises(CheckpointError, match="the state of an optimizer alone"):
        load_generator(save(optimizer.state_dict(), tmp_path / "optimizer.pt"))


def test_programs_and_other_formats_are_named(tmp_path):
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "scripted.pt")
    np.savez(tmp_path / "projected_w.npz", w=np.ones((1, 8, 16), np.float32))
    np.save(tmp_path / "latent.npy", np.ones((1, 8, 16), np.float32))
    (tmp_path / "g.onnx").write_bytes(b"\x08\x07\x12\x07pytorch\x1a\x051.9.0" + bytes(80))
    for name, message in {
        "scripted.pt": "is a program of TorchScript",
        "projected_w.npz": "holds arrays of numpy",
        "latent.npy": "is an array of numpy",
        "g.onnx": "is an ONNX model",
    }.items():
        with pytest.raises(CheckpointError, match=message) as caught:
            load_generator(tmp_path / name)
        assert "damaged" not in str(caught.value)


def test_a_single_network_of_tensorflow(tmp_path):
    from foreign_files import tensorflow_network

    generator = small(conv_clamp=None)
    assert_pictures(dump(tensorflow_network(generator), tmp_path / "gs.pkl"), generator)
    assert_pictures(dump({"Gs": tensorflow_network(generator)}, tmp_path / "gs.pkl"), generator)
