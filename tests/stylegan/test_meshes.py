"""The shape of what a generator draws, and its file."""

import json
import struct
import sys

import numpy as np
import pytest
import torch
from comfyui_stylegan_fusion.stylegan import sample_codes, sample_z
from comfyui_stylegan_fusion.stylegan.glb import glb
from comfyui_stylegan_fusion.stylegan.shapes import BORDER, blurred, density_grid, extract_shape, surface_colours
from eg3d_files import head
from foreign_files import small


@pytest.fixture
def generator():
    return head(camera_pivot=(0.0, 0.0, 0.0))


@pytest.fixture
def ws(generator):
    return sample_codes(generator, sample_z(generator.z_dim, 1, 0))


@pytest.fixture
def ball(generator, monkeypatch):
    """A field in which the density falls from 60 in the middle, 10 at a distance of 0.25, red on the right half."""

    def at(planes, points):
        density = 60 - 200 * points.norm(dim=-1)
        red = (points[..., :1] > 0).float()
        return torch.cat([red, 0 * red, 1 - red, red], -1), density

    monkeypatch.setattr(generator.synthesis, "at", at)
    return generator


def test_densities_lie_where_they_belong(ball, ws):
    """By x, y and z: against the field at some points of the grid."""
    grid = density_grid(ball, ws, 17)
    half = ball.config.box_warp / 2
    for x, y, z in ((0, 0, 0), (8, 8, 8), (16, 3, 9)):
        place = torch.tensor([x, y, z]) / 16 * 2 * half - half
        assert grid[x, y, z].item() == pytest.approx(60 - 200 * place.norm().item(), abs=1e-3)


def test_the_surface_of_a_ball(ball, ws):
    mesh = extract_shape(ball, ws, 48)
    distances = mesh.vertices.norm(dim=1)
    assert (distances - 0.25).abs().max() < 0.002
    outwards = mesh.vertices / distances[:, None]
    assert ((mesh.normals * outwards).sum(1) > 0.95).all()
    a, b, c = (mesh.vertices[mesh.faces[:, i]] for i in range(3))
    across = torch.linalg.cross(b - a, c - a)
    assert ((across * (a + b + c)).sum(1) > 0).all(), "counterclockwise from outside"
    assert across.norm(dim=1).sum().item() / 2 == pytest.approx(4 * np.pi * 0.25**2, rel=0.02)
    assert ((a * torch.linalg.cross(b, c)).sum() / 6).item() == pytest.approx(4 / 3 * np.pi * 0.25**3, rel=0.02)
    right = mesh.vertices[:, 0] > 0
    assert torch.equal(mesh.colours[:, 0] == 1, right) and torch.equal(mesh.colours[:, 2] == 1, ~right)


def test_another_level_is_another_surface(ball, ws):
    mesh = extract_shape(ball, ws, 48, level=20)
    assert (mesh.vertices.norm(dim=1) - 0.2).abs().max() < 0.002


def test_only_the_part_in_the_middle_is_kept(generator, ws, monkeypatch):
    def two(planes, points):
        small_one = 60 - 500 * (points - points.new_tensor([0.3, 0.3, 0.0])).norm(dim=-1)
        return torch.rand(*points.shape[:2], 4), torch.maximum(60 - 400 * points.norm(dim=-1), small_one)

    monkeypatch.setattr(generator.synthesis, "at", two)
    assert extract_shape(generator, ws, 48).vertices.norm(dim=1).max() < 0.14
    assert extract_shape(generator, ws, 48, whole=True).vertices.norm(dim=1).max() > 0.35


def test_the_border_is_left_out(generator, ws, monkeypatch):
    monkeypatch.setattr(generator.synthesis, "at", lambda planes, points: (points, torch.full(points.shape[:2], 30.0)))
    mesh = extract_shape(generator, ws, 64)
    edge = 0.5 - 1 / 63 * int(BORDER * 64)
    assert mesh.vertices.abs().max().item() == pytest.approx(edge, abs=1 / 63)


def test_a_blur_smooths_a_rough_surface(generator, ws, monkeypatch):
    noise = torch.Generator().manual_seed(0)

    def rough(planes, points):
        return points, 60 - 200 * points.norm(dim=-1) + 8 * torch.randn(points.shape[:2], generator=noise)

    monkeypatch.setattr(generator.synthesis, "at", rough)
    spread = [extract_shape(generator, ws, 40, smooth=sigma).vertices.norm(dim=1).std() for sigma in (0, 1.5)]
    assert spread[1] < 0.4 * spread[0]
    point = torch.zeros(21, 21, 21)
    point[10, 10, 10] = 1
    soft = blurred(point, 2.0)
    assert soft.sum().item() == pytest.approx(1, abs=1e-4)
    distances = torch.stack(torch.meshgrid(*[torch.arange(21.0) - 10] * 3, indexing="ij")).square().sum(0)
    assert (soft * distances).sum().item() == pytest.approx(3 * 2.0**2, rel=0.05), (
        "its variance is that of the Gaussian"
    )


def test_colours_of_points_are_the_generators(generator, ws):
    points = torch.rand(5, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    from comfyui_stylegan_fusion.stylegan import Draw

    colours, _ = generator.synthesis.at(generator.synthesis.planes(Draw(ws)), points[None])
    assert torch.allclose(surface_colours(generator, ws, points), colours[0, :, :3].clamp(0, 1), atol=1e-6)


def test_a_file_holds_the_mesh(ball, ws):
    """Read by a few lines of our own, from the description of glTF 2.0."""
    mesh = extract_shape(ball, ws, 24)
    data = glb(mesh, {"latent": "seed 0"})
    magic, version, length = struct.unpack_from("<4sII", data)
    assert (magic, version, length) == (b"glTF", 2, len(data))
    size, kind = struct.unpack_from("<I4s", data, 12)
    described = json.loads(data[20 : 20 + size])
    assert kind == b"JSON" and described["asset"] == {
        "version": "2.0",
        "generator": "StyleGAN Fusion",
        "extras": {"latent": "seed 0"},
    }
    binary_size, kind = struct.unpack_from("<I4s", data, 20 + size)
    start = 28 + size
    assert kind == b"BIN\0" and start + binary_size == len(data) and start % 4 == 0

    def numbers(index):
        accessor = described["accessors"][index]
        view = described["bufferViews"][accessor["bufferView"]]
        assert view["byteOffset"] % 4 == 0
        kind = {5126: "<f4", 5125: "<u4"}[accessor["componentType"]]
        width = {"VEC3": 3, "SCALAR": 1}[accessor["type"]]
        return np.frombuffer(data, kind, accessor["count"] * width, start + view["byteOffset"]).reshape(-1, width)

    primitive = described["meshes"][0]["primitives"][0]
    names = primitive["attributes"]
    assert np.array_equal(numbers(names["POSITION"]), mesh.vertices.numpy())
    assert np.array_equal(numbers(names["NORMAL"]), mesh.normals.numpy())
    assert np.array_equal(numbers(primitive["indices"]).reshape(-1, 3), mesh.faces.numpy())
    corners = described["accessors"][names["POSITION"]]
    assert (
        corners["min"] == mesh.vertices.min(0).values.tolist()
        and corners["max"] == mesh.vertices.max(0).values.tolist()
    )
    colours = numbers(names["COLOR_0"])
    assert set(np.unique(colours)) == {0.0, 1.0}
    from comfyui_stylegan_fusion.stylegan.glb import linear

    assert linear(torch.tensor([0.5, 0.02])).tolist() == pytest.approx([0.214041, 0.02 / 12.92], abs=1e-5)


def test_what_has_no_shape_is_said(generator, ws, monkeypatch):
    flat = small()
    with pytest.raises(ValueError, match="flat pictures"):
        extract_shape(flat, torch.zeros(1, flat.num_ws, flat.w_dim))
    with pytest.raises(ValueError, match=r"no surface of density 1e\+06: the highest is"):
        extract_shape(generator, ws, 16, level=1e6)
    with pytest.raises(ValueError, match="grid of 4 points"):
        extract_shape(generator, ws, 4)
    with pytest.raises(ValueError, match="blur"):
        extract_shape(generator, ws, 16, smooth=-1)
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(ImportError, match=r'needs scikit-image.*extra "headless"'):
        extract_shape(generator, ws, 16)
