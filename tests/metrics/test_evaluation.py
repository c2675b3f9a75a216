"""The measures of sets of images, against closed forms and other computations."""

import math
import sys

import numpy as np
import pytest
import torch
from comfyui_stylegan_fusion.metrics import evaluation
from comfyui_stylegan_fusion.metrics.evaluation import (
    Measure,
    MissingPackage,
    agreement,
    clip_score,
    frechet_distance,
    kernel_distance,
    lpips_diversity,
    phrases_of,
    pooled_features,
)
from comfyui_stylegan_fusion.metrics.judging import judge
from comfyui_stylegan_fusion.metrics.lpips import lpips, unit_layers
from comfyui_stylegan_fusion.metrics.report import Evaluation, Row, distance_rows, evaluation_picture
from comfyui_stylegan_fusion.miniature.perceptual import load_features


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def network():
    return load_features("miniature")


@pytest.fixture(scope="module")
def images():
    return normal(9, 3, 32, 32, seed=3).clamp(-1, 1)


def test_frechet_distance_of_gaussians_has_its_closed_form():
    a = normal(200_000, 3)
    scale, shift = torch.tensor([1.0, 2.0, 0.5]), torch.tensor([0.0, 1.0, -2.0])
    b = normal(200_000, 3, seed=1) * scale + shift
    expected = shift.square().sum() + (1 - scale).square().sum()  # diagonal covariances commute
    assert frechet_distance(a, b) == pytest.approx(expected.item(), rel=0.02)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("count", [40, 6])
def test_frechet_distance_with_symmetric_roots_is_the_same_also_of_fewer_images_than_features(count):
    a, b = normal(count, 12) @ normal(12, 12, seed=2), normal(30, 12, seed=1) + 0.5
    x, y = a.double().numpy(), b.double().numpy()
    values, vectors = np.linalg.eigh(np.cov(x.T))
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    roots = np.sqrt(np.linalg.eigvalsh(root @ np.cov(y.T) @ root).clip(0)).sum()
    expected = np.square(x.mean(0) - y.mean(0)).sum() + np.trace(np.cov(x.T) + np.cov(y.T)) - 2 * roots
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-4)


def test_kernel_distance_is_the_mean_of_unbiased_discrepancies_of_the_cubic_kernel():
    a, b = normal(300, 4), normal(300, 4, seed=1) + 1

    def kernel(x, y):
        return (x.double() @ y.double().T / 4 + 1) ** 3

    def without_diagonal(k):
        return (k.sum() - k.trace()) / (len(k) * (len(k) - 1))

    whole = without_diagonal(kernel(a, a)) + without_diagonal(kernel(b, b)) - 2 * kernel(a, b).mean()
    found = kernel_distance(a, b)
    assert found.value == pytest.approx(whole.item(), abs=3 * found.error / math.sqrt(evaluation.SUBSETS) + 0.1)
    assert 0 < found.error < found.value


def test_kernel_distance_has_no_bias_where_frechet_distance_has():
    """Of one distribution, with fewer images than features."""
    pairs = [(normal(20, 50, seed=2 * i), normal(20, 50, seed=2 * i + 1)) for i in range(20)]
    kernel = torch.tensor([kernel_distance(a, b).value for a, b in pairs])
    assert abs(kernel.mean()) < 3 * kernel.std() / math.sqrt(len(pairs))
    assert min(frechet_distance(a, b) for a, b in pairs) > 20


def test_a_seed_draws_the_same_subsets_and_leaves_other_draws_alone():
    a, b = normal(30, 4), normal(30, 4, seed=1)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    assert kernel_distance(a, b, seed=1) == kernel_distance(a, b, seed=1)
    assert torch.equal(torch.rand(3), expected)
    assert kernel_distance(a, b, seed=1) != kernel_distance(a, b, seed=2)


def test_features_that_cannot_be_compared_are_refused():
    for distance in (frechet_distance, kernel_distance):
        with pytest.raises(ValueError, match=r"Features \[4, 3\] and \[4, 5\] are not of one network"):
            distance(normal(4, 3), normal(4, 5))
        with pytest.raises(ValueError, match="2 images or more in each"):
            distance(normal(4, 3), normal(1, 3))
        with pytest.raises(ValueError, match="not finite"):
            distance(normal(4, 3), normal(4, 3) / 0)


def test_without_torchmetrics_the_error_says_how_to_install_it(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("torchmetrics")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    monkeypatch.setattr(sys, "executable", "C:\\my programs\\python.exe")
    with pytest.raises(
        MissingPackage, match=r'run "C:\\my programs\\python.exe" -m pip install torchmetrics and start again\.$'
    ):
        frechet_distance(normal(4, 3), normal(4, 3))


def test_clip_score_is_a_hundred_cosines_and_never_negative():
    text = torch.tensor([2.0, 0.0])
    images = torch.tensor([[3.0, 0.0], [0.0, 1.0]])
    assert clip_score(images, text).value == pytest.approx(50)
    assert clip_score(images, text).error == pytest.approx(50)  # standard deviation 70.7 over the root of 2
    assert clip_score(-images, text).value == 0


def test_diversity_of_few_images_is_the_mean_lpips_of_all_pairs(network, images):
    layers = unit_layers(network, images)
    pairs = [
        lpips([y[i : i + 1] for y in layers], [y[j : j + 1] for y in layers]).item() for i in range(9) for j in range(i)
    ]
    heard = []
    found = lpips_diversity(images, network, on_images=heard.append)
    assert found.value == pytest.approx(np.mean(pairs), rel=1e-5)
    assert 0 < found.error < found.value and sum(heard) == 9


def test_diversity_of_equal_images_is_nothing_and_of_two_is_their_distance(network, images):
    assert lpips_diversity(images[:1].expand(20, -1, -1, -1), network).value == pytest.approx(0, abs=1e-6)
    two = unit_layers(network, images[:2])
    expected = lpips([y[:1] for y in two], [y[1:] for y in two]).item()
    assert lpips_diversity(images[:2], network).value == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ValueError, match="2 images or more"):
        lpips_diversity(images[:1], network)


def test_the_error_of_the_diversity_tells_how_far_other_images_are(network):
    """Sets of images that are more or less grey."""

    def measured(seed):
        images = normal(40, 3, 16, 16, seed=seed) * torch.rand(
            40, 1, 1, 1, generator=torch.Generator().manual_seed(seed)
        )
        return lpips_diversity(images.clamp(-1, 1), network, seed)

    found = [measured(seed) for seed in range(20)]
    spread = torch.tensor([measure.value for measure in found]).std().item()
    assert 0.5 < np.mean([measure.error for measure in found]) / spread < 2


@pytest.mark.parametrize("own, rest", [(0.0, 1.0), (0.3, 1.0), (1.0, 0.0)])
def test_the_error_over_pairs_is_right_whether_images_differ_or_pairs(own, rest):
    """Distances of 64 images to the 4 that follow: what each image adds, and what each pair does."""

    def drawn(seed):
        images, pairs = own * normal(64, seed=seed), rest * normal(64, 4, seed=seed + 1000)
        return torch.stack([images + images.roll(-shift) for shift in range(1, 5)], dim=1) + pairs

    sets = [drawn(seed) for seed in range(400)]
    spread = torch.stack([distances.mean() for distances in sets]).std().item()
    assert np.mean([evaluation._error_over_pairs(distances) for distances in sets]) == pytest.approx(spread, rel=0.15)


def test_errors_of_very_few_images_are_not_known(network, images):
    assert math.isnan(lpips_diversity(images[:3], network).error) and lpips_diversity(images[:4], network).error > 0
    assert math.isnan(kernel_distance(normal(3, 4), normal(9, 4)).error)
    assert kernel_distance(normal(4, 4), normal(9, 4)).error > 0


def test_pooled_features_are_means_over_places_whatever_the_batch(network, images):
    features = pooled_features(images, network)
    assert features.shape == (9, sum(layer.shape[1] for layer in network(images[:1])))
    torch.testing.assert_close(features[8:], pooled_features(images[8:], network))
    torch.testing.assert_close(features[:, :32], network(images)[0].mean(dim=(2, 3)))


def test_agreement_counts_images_that_find_their_text_also_across_a_gap():
    texts = normal(8, 64)
    assert agreement(texts + 5, texts) == 8  # an offset between images and texts, as CLIP has
    strangers = [agreement(normal(8, 64, seed=2 * i + 1), normal(8, 64, seed=2 * i + 2)) for i in range(200)]
    assert np.mean(strangers) < 1.5 and np.mean([count >= 4 for count in strangers]) < 0.03


def test_distances_come_with_a_warning_where_images_are_few():
    sets = {"now": normal(22, 24), "before": normal(22, 24) + 1, "reference": normal(40, 24, seed=1)}
    rows, notes = distance_rows(sets, seed=0)
    assert [row.name for row in rows] == ["Fréchet distance", "Kernel distance x 1000"]
    assert all(set(row.values) == {"now", "before"} for row in rows)
    assert "too large with few images (22, and the network has 24 features)" in notes[0]
    assert distance_rows({name: values.repeat(2, 1) for name, values in sets.items()}, seed=0)[1] == []
    _, notes = distance_rows({name: values[:19] for name, values in sets.items()}, seed=0)
    assert len(notes) == 1 and "say nothing of so few images (19)" in notes[0]


def test_a_report_names_every_set_and_what_was_not_measured_is_not_a_number():
    row = Row("Diversity", "higher is more varied", {"now": Measure(0.25, 0.012), "before": Measure(0.5)})
    found = Evaluation([row], ["A note."])
    assert found.text() == "Diversity: 0.25 ± 0.012 (before 0.5); higher is more varied\nA note."
    assert found.value("Diversity") == 0.25 and math.isnan(found.value("CLIP score"))


def test_bars_are_as_long_as_the_values():
    values = {"now": Measure(1.0), "before": Measure(4.0, 0.5), "reference": Measure(-1.0)}
    picture = evaluation_picture(Evaluation([Row("Fréchet distance", "lower is nearer", values)]))

    def pixels(colour):
        wanted = torch.tensor([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
        found = (torch.from_numpy(np.array(picture)).int() == wanted).all(dim=-1)
        return found.any(dim=0).sum().item()

    now, before, reference = map(pixels, ("#2f6fde", "#9aa3ad", "#2f9e5f"))
    assert before == pytest.approx(4 * now, abs=6) and reference <= 2
    assert evaluation_picture(Evaluation()).width == picture.width
    assert evaluation_picture(Evaluation([Row("a", "b", {"now": Measure(math.nan)})])).height > 60


def test_a_text_is_split_at_commas_outside_of_brackets():
    assert phrases_of("a fox, (golden, shiny:1.2) fur,\n snow , a fox,") == ["a fox", "(golden, shiny:1.2) fur", "snow"]
    assert phrases_of("a fox, snow", "a fox,") == ["a fox"]
    assert phrases_of("a portrait of a fox") == phrases_of("") == phrases_of("a fox,") == []


def test_each_phrase_is_scored_by_itself():
    """Images that embed as one axis or the other."""

    class Axes:
        def __init__(self, axis):
            self.axis = axis

        def __len__(self):
            return 4

        def pieces(self):
            yield torch.full((4, 3, 16, 16), float(self.axis))

        def size(self):
            return 16, 16

    def embed(images):
        return torch.nn.functional.one_hot(images[:, 0, 0, 0].long(), 2).float()

    class Pixels(torch.nn.Module):
        name, image_size, calibration = "pixels", 16, None

        def __init__(self):
            super().__init__()
            self.nothing = torch.nn.Parameter(torch.zeros(1))

        def forward(self, images):
            return [images]

    phrases = {"first": torch.tensor([1.0, 0.0]), "second": torch.tensor([1.0, 1.0])}
    found = judge({"now": Axes(0), "before": Axes(1)}, Pixels(), clip=embed, phrases=phrases)
    values = {row.name: [value.value for value in row.values.values()] for row in found.phrases}
    assert values == {"first": [pytest.approx(100), 0], "second": [pytest.approx(50**0.5 * 10)] * 2}
    assert [row.name for row in found.rows] == ["Diversity"]
    assert "CLIP score of each phrase:\n  first: 100" in found.text()
    plain = evaluation_picture(Evaluation(found.rows)).height
    assert evaluation_picture(found).height > plain + 2 * 2 * 26
