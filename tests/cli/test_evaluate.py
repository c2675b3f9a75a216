"""The command evaluate."""

import json

import pytest
import torch
from comfyui_stylegan_fusion.cli import main
from comfyui_stylegan_fusion.stylegan import CheckpointError
from comfyui_stylegan_fusion.stylegan.inception_files import load_inception


@pytest.fixture(scope="module")
def persons(tmp_path_factory):
    """A folder of what the bundled generator draws, of another seed."""
    folder = tmp_path_factory.mktemp("persons")
    assert main(["sample", "--generator", "miniature", "--count", "24", "--seed", "9", "--output", str(folder)]) == 0
    (folder / "grid.png").unlink()
    return folder


def test_a_generator_is_nearer_to_its_own_kind_than_another_one_and_fits_its_text(tmp_path, capsys, persons):
    out = tmp_path / "report"
    evaluate = ["evaluate", "miniature", "--before", "miniature-cat", "--reference", str(persons), "--count", "24"]
    assert main([*evaluate, "--clip", "miniature", "--text", "a portrait of a person", "--output", str(out)]) == 0
    said = capsys.readouterr().out
    assert "Images: 24 (now), 24 (before), 24 (reference)" in said and "They do not compare with FID" in said
    assert {path.name for path in out.iterdir()} == {"report.txt", "report.png", "report.json"}
    measures = json.loads((out / "report.json").read_text())["measures"]
    for name in ("Fréchet distance", "Kernel distance x 1000"):
        assert measures[name]["now"]["value"] < 0.5 * measures[name]["before"]["value"]
    assert measures["CLIP score"]["now"]["value"] > measures["CLIP score"]["before"]["value"] + 5


def test_a_folder_is_no_distance_from_itself(capsys, persons):
    assert main(["evaluate", str(persons), "--reference", str(persons)]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("Fréchet distance"))
    assert float(line.split(":")[1].split(";")[0]) < 1e-3


@pytest.mark.parametrize(
    "options, sentence",
    [
        (["--reference", "nowhere"], "--reference nowhere is no folder"),
        (["--text", "a cat"], "add --clip FOLDER"),
        (["--inception", "weights.pth"], "add --reference FOLDER"),
        (["--clip", "nowhere"], "nowhere is no CLIP in the layout of transformers"),
        (["--truncation-psi", "nan"], "--truncation-psi is nan"),
    ],
)
def test_evaluations_that_make_no_sense_get_a_sentence(tmp_path, capsys, options, sentence):
    assert main(["evaluate", "miniature", "--count", "4", *options, "--output", str(tmp_path / "out")]) == 1
    assert sentence in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory):
    """A file of torch-fidelity's names with random weights: the real ones are a download. The library brings a
    torchvision, which has to fit torch, so it is none of those that every run of the tests installs."""
    theirs = "torch_fidelity.feature_extractor_inceptionv3"
    module = pytest.importorskip(theirs, reason="the extra 'evaluate' is not installed")
    FeatureExtractorInceptionV3 = module.FeatureExtractorInceptionV3
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    random = torch.Generator().manual_seed(0)

    class Random(FeatureExtractorInceptionV3):
        def load_state_dict(self, *_):
            for value in self.state_dict().values():
                if value.is_floating_point() and value.ndim > 1:
                    value.copy_(torch.randn(value.shape, generator=random) * (2 / value[0].numel()) ** 0.5)

    torch.save({}, path)
    torch.save(Random("inception", ["2048"], str(path)).state_dict(), path)
    return path


def test_inception_s_features_are_torch_fidelity_s_and_no_pickle_is_executed(inception_file, tmp_path):
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    images = torch.rand(3, 3, 40, 40, generator=torch.Generator().manual_seed(1)) * 2 - 1
    theirs = FeatureExtractorInceptionV3("inception", ["2048"], str(inception_file))
    (wanted,) = theirs(((images + 1) * 127.5).round().byte())
    torch.testing.assert_close(load_inception(inception_file)(images), wanted)
    torch.save({"weights": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="is not Inception v3: it lacks the weight"):
        load_inception(tmp_path / "other.pth")


def test_distances_by_inception_are_called_fid_and_kid(capsys, persons, inception_file):
    evaluate = ["evaluate", "miniature", "--reference", str(persons), "--count", "4"]
    assert main([*evaluate, "--inception", str(inception_file)]) == 0
    assert "Both distances by Inception v3: FID and KID x 1000" in capsys.readouterr().out
