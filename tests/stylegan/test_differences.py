"""Differences of generators: what they hold, what they make, what they share, and the files that are refused."""

import copy

import pytest
import torch
from comfyui_stylegan_fusion.stylegan import (
    CheckpointError,
    Generator,
    GeneratorConfig,
    difference,
    difference_metadata,
    load_checkpoint,
    load_difference,
    mixed,
    save_difference,
    save_generator,
    with_differences,
)
from foreign_files import STYLEGAN3_T, build, small


def adapted_from(source, seed, *names):
    """A copy whose weights of these names have moved a little."""
    generator, random = copy.deepcopy(source), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in generator.named_parameters():
            if name in names:
                value.add_(0.1 * torch.randn(value.shape, generator=random))
    return generator


def names_of(generator):
    biases = [name for name, _ in generator.named_parameters() if name.endswith("affine.bias")]
    return [*biases, "synthesis.blocks.1.convs.0.weight"] if hasattr(generator.synthesis, "blocks") else biases


@pytest.fixture(params=["stylegan2", "stylegan3"])
def source(request):
    return small(seed=0) if request.param == "stylegan2" else build(STYLEGAN3_T, 0)


def test_a_file_makes_the_adapted_generator_again_to_half_a_unit_of_half_precision(source, tmp_path):
    adapted = adapted_from(source, 1, *names_of(source))
    save_difference(difference(source, adapted, {"prompt": "a fox"}), tmp_path / "a.difference.safetensors")
    read = load_difference(tmp_path / "a.difference.safetensors")
    assert read.is_of(source) and not read.is_of(adapted) and dict(read.metadata) == {"prompt": "a fox"}
    assert set(read.weights) == set(names_of(source))
    assert all(value.dtype == torch.float16 for value in read.weights.values())
    again = with_differences(source, [(read, 1.0)])
    for (name, made), wanted, before in zip(
        again.state_dict().items(), adapted.state_dict().values(), source.state_dict().values(), strict=True
    ):
        # Half precision keeps eleven bits of the change; the sum adds a rounding of its own.
        torch.testing.assert_close(made - before, wanted - before, rtol=2**-11, atol=1e-6, msg=name)
    twice = with_differences(source, [(load_difference(tmp_path / "a.difference.safetensors"), 1.0)])
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), twice.state_dict().values(), strict=True))


def test_sums_are_those_of_the_weights_and_the_amount_0_is_the_source(source):
    first, second = (adapted_from(source, seed, *names_of(source)) for seed in (1, 2))
    made = mixed(source, [(first, 0.3), (second, -0.5)])
    for (name, found), s, a, b in zip(
        made.state_dict().items(),
        source.state_dict().values(),
        first.state_dict().values(),
        second.state_dict().values(),
        strict=True,
    ):
        torch.testing.assert_close(found, s + 0.3 * (a - s) - 0.5 * (b - s), msg=name)
    nothing = mixed(source, [(first, 0.0), (second, 0.0)])
    assert all(
        torch.equal(a, b) for a, b in zip(nothing.state_dict().values(), source.state_dict().values(), strict=True)
    )
    assert not made.training and not any(p.requires_grad for p in made.parameters())


def test_what_is_not_changed_is_the_memory_of_the_source_and_the_source_stays_as_it_is(source):
    before = {name: value.clone() for name, value in source.state_dict().items()}
    changed = names_of(source)
    made = with_differences(source, [(difference(source, adapted_from(source, 1, *changed)), 1.0)])
    pointers = {name: value.data_ptr() for name, value in source.state_dict().items()}
    shared = {name for name, value in made.state_dict().items() if value.data_ptr() == pointers[name]}
    assert shared == set(pointers) - set(changed)
    assert all(torch.equal(value, before[name]) for name, value in source.state_dict().items())


def test_another_source_of_the_same_sizes_takes_a_difference_and_one_of_other_sizes_does_not():
    source, sibling = small(seed=0), small(seed=5)
    found = difference(source, adapted_from(source, 1, "synthesis.blocks.1.convs.0.affine.bias"))
    name = "synthesis.blocks.1.convs.0.affine.bias"
    made = with_differences(sibling, [(found, 1.0)])
    torch.testing.assert_close(made.state_dict()[name] - sibling.state_dict()[name], found.weights[name].float())
    other = build(STYLEGAN3_T, 0)
    with pytest.raises(ValueError, match=r"not of such a generator .*synthesis"):
        with_differences(other, [(found, 1.0)])
    with pytest.raises(ValueError, match="take two of one kind"):
        difference(source, other)
    with pytest.raises(ValueError, match="have the same weights"):
        difference(source, copy.deepcopy(source))


def test_three_layers_at_1024_pixels_fit_15_megabytes_and_all_styles_40_kilobytes(tmp_path):
    source = Generator(GeneratorConfig(resolution=1024)).eval()
    layers = [name for name, p in source.named_parameters() if name.startswith("synthesis") and p.numel() == 512**2 * 9]
    save_difference(difference(source, adapted_from(source, 1, *layers[:3])), tmp_path / "layers")
    assert 14e6 < (tmp_path / "layers").stat().st_size < 15e6
    styles = [name for name, _ in source.named_parameters() if name.endswith("affine.bias")]
    found = difference(source, adapted_from(source, 1, *styles))
    assert sum(value.numel() for value in found.weights.values()) == 9088
    save_difference(found, tmp_path / "styles")
    assert (tmp_path / "styles").stat().st_size < 40_000


def test_what_half_precision_cannot_hold_is_kept_in_single():
    source = small(seed=0)
    adapted = copy.deepcopy(source)
    with torch.no_grad():
        adapted.synthesis.blocks[1].convs[0].noise_strength.fill_(1e6)
    (value,) = difference(source, adapted).weights.values()
    assert value.dtype == torch.float32 and value.item() == pytest.approx(1e6)


def test_files_of_differences_and_of_generators_are_told_apart(tmp_path):
    source = small(seed=0)
    found = difference(source, adapted_from(source, 1, "synthesis.blocks.1.convs.0.affine.bias"))
    save_difference(found, tmp_path / "a.difference.safetensors")
    save_generator(source, tmp_path / "source.safetensors")
    with pytest.raises(CheckpointError, match="holds only what was changed of a generator; load the generator"):
        load_checkpoint(tmp_path / "a.difference.safetensors")
    with pytest.raises(CheckpointError, match="holds no differences; choose a file that Save Difference wrote"):
        load_difference(tmp_path / "source.safetensors")
    (tmp_path / "text").write_text("no file of ours at all")
    with pytest.raises(CheckpointError, match="holds no differences"):
        load_difference(tmp_path / "text")
    content = (tmp_path / "a.difference.safetensors").read_bytes()
    for length in (4, 60, len(content) - 7):
        (tmp_path / "cut").write_bytes(content[:length])
        with pytest.raises(CheckpointError):
            load_difference(tmp_path / "cut")
    (tmp_path / "later").write_bytes(content.replace(b"stylegan-fusion-difference/1", b"stylegan-fusion-difference/9"))
    with pytest.raises(CheckpointError, match="another version"):
        load_difference(tmp_path / "later")


def test_numbers_that_are_not_finite_are_neither_written_nor_read(tmp_path):
    source, name = small(seed=0), "synthesis.blocks.1.convs.0.affine.bias"
    broken = adapted_from(source, 1, name)
    with torch.no_grad():
        broken.state_dict()[name][0] = float("nan")
    with pytest.raises(CheckpointError, match="not finite"):
        save_difference(difference(source, broken), tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_the_metadata_say_what_was_added_and_keep_every_licence():
    found = difference_metadata(
        ("faces.pkl", {"license": "theirs", "crop": "512x384"}),
        [
            ("fox", {"prompt": "a fox", "license": "ours"}, 0.5),
            ("doll", {"prompt": "a doll", "license": "theirs"}, 1.0),
        ],
    )
    assert found["license"] == "theirs; ours" and found["crop"] == "512x384" and found["source"] == "faces.pkl"
    assert found["prompt"] == "a fox; a doll" and '"amount": 0.5' in found["sum"]
