"""Pictures that users give: files, and folders of them."""

from collections.abc import Iterable
from pathlib import Path

from PIL import Image, ImageOps

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")


def picture_files(places: Iterable[Path]) -> list[Path]:
    """Return the files that are named, and the pictures in the folders that are, those of folders in order of their
    names and without the folders below. Raises ValueError where there are none."""
    found = []
    for place in places:
        if not place.is_dir():
            if not place.exists():
                raise ValueError(f"There is no file {place}; check the name and the folder.")
            found.append(place)
            continue
        inside = sorted(file for file in place.iterdir() if file.suffix.lower() in ENDINGS and file.is_file())
        if not inside:
            raise ValueError(f"{place} holds no pictures ({', '.join(ENDINGS)}); give another folder.")
        found += inside
    return found


def read_picture(path: Path):
    """Read a Pillow picture in RGB, turned as its camera says; what is transparent becomes white. Raises ValueError."""
    try:
        with Image.open(path) as opened:
            picture = ImageOps.exif_transpose(opened)
            if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
                picture = picture.convert("RGBA")
                picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
            if picture.mode.startswith("I;16") or picture.mode == "I":  # 16 bits, which convert() would cut off
                picture = picture.convert("I").point(lambda value: value * (1 / 257)).convert("L")
            return picture.convert("RGB")
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read as a picture ({error}); choose another one.") from error
