"""Meshes as .glb: binary glTF 2.0 (Khronos Group), with a colour for each vertex."""

import json
import struct
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from .shapes import Mesh

_FLOAT, _UINT = 5126, 5125
_VERTICES, _INDICES = 34962, 34963  # what a view of the buffer is for


def glb(mesh: Mesh, notes: Mapping[str, str] | None = None) -> bytes:
    """Return a file of a mesh, with notes as its extras."""
    parts = [
        (mesh.vertices, "VEC3", _FLOAT, _VERTICES),
        (mesh.normals, "VEC3", _FLOAT, _VERTICES),
        (linear(mesh.colours), "VEC3", _FLOAT, _VERTICES),
        (mesh.faces.flatten(), "SCALAR", _UINT, _INDICES),
    ]
    views, accessors, data = [], [], b""
    for numbers, kind, component, target in parts:
        array = numbers.contiguous().numpy().astype("<u4" if component == _UINT else "<f4")
        views.append({"buffer": 0, "byteOffset": len(data), "byteLength": array.nbytes, "target": target})
        accessors.append({"bufferView": len(views) - 1, "componentType": component, "count": len(array), "type": kind})
        data += array.tobytes()
    corners = mesh.vertices.numpy().astype(np.float32)
    accessors[0] |= {"min": corners.min(0).tolist(), "max": corners.max(0).tolist()}
    primitive = {"attributes": {"POSITION": 0, "NORMAL": 1, "COLOR_0": 2}, "indices": 3, "material": 0}
    described = {
        "asset": {"version": "2.0", "generator": "StyleGAN Fusion", "extras": dict(notes or {})},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [primitive]}],
        "materials": [{"pbrMetallicRoughness": {"metallicFactor": 0.0, "roughnessFactor": 1.0}}],
        "buffers": [{"byteLength": len(data)}],
        "bufferViews": views,
        "accessors": accessors,
    }
    text = json.dumps(described, separators=(",", ":")).encode()
    chunks = _chunk(b"JSON", text, b" ") + _chunk(b"BIN\0", data, b"\0")
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def linear(colours: Tensor) -> Tensor:
    """Return sRGB colours in [0, 1] as linear ones, which glTF has."""
    return torch.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)


def _chunk(kind: bytes, data: bytes, filling: bytes) -> bytes:
    data += filling * (-len(data) % 4)
    return struct.pack("<I4s", len(data), kind) + data
