"""Stable Diffusion from a folder in the layout of diffusers: model_index.json, unet/, vae/, text_encoder/ and others."""

import json
from pathlib import Path
from typing import Any

import torch

from ...training.out_of_memory import is_out_of_memory
from .building import (
    TEXT_ENCODER,
    TEXT_ENCODER_2,
    build_scheduler,
    build_text_encoder,
    build_unet,
    build_vae,
    require_libraries,
)
from .weights import WeightFiles

_ADVICE = "Get a complete copy of the model."
_COMPONENTS = {
    "vae": "AutoencoderKL",
    "unet": "UNet2DConditionModel",
    "text_encoder": "CLIPTextModel",
    "tokenizer": "CLIPTokenizer",
}
_SECOND = {"text_encoder_2": "CLIPTextModelWithProjection", "tokenizer_2": "CLIPTokenizer"}
_OTHER_FAMILIES = ("transformer", "text_encoder_3", "image_encoder_2", "prior")
_HALF_VARIANTS = ("fp16", "bf16")

MODEL_STEM = "diffusion_pytorch_model"
"""What diffusers calls the file with the weights of a VAE or a UNet."""


def read_folder(folder: Path, dtype: torch.dtype, prediction: str | None = None) -> dict[str, Any]:
    """Read the parts of a model, by the names of diffusers' pipelines, on the CPU; the UNet in a precision, all others
    in float32.

    Of weights in several precisions those of the UNet's are taken. `prediction` is "epsilon" or "v_prediction"; None
    takes what the folder says. Raises ImportError without the
    extra, FileNotFoundError and ValueError with a sentence that names the part."""
    two = _check_family(folder)
    require_libraries()
    half = dtype != torch.float32

    def weights(part: str, stem: str) -> WeightFiles:
        return WeightFiles(*weight_files(folder / part, stem, half))

    def text_encoder(part: str, called: str, projected: bool) -> Any:
        config = read_json(folder / part / "config.json")
        return build_text_encoder(config, weights(part, "model"), called, folder / part, projected)

    schedule = read_json(folder / "scheduler" / "scheduler_config.json")
    if prediction:
        schedule["prediction_type"] = prediction
    parts = {
        "text_encoder": text_encoder("text_encoder", TEXT_ENCODER, False),
        "scheduler": build_scheduler(schedule, folder / "scheduler"),
        "vae": build_vae(read_json(folder / "vae" / "config.json"), weights("vae", MODEL_STEM), folder / "vae"),
        "unet": build_unet(
            read_json(folder / "unet" / "config.json"), weights("unet", MODEL_STEM), folder / "unet", dtype
        ),
    }
    parts["tokenizer"] = _tokenizer(folder / "tokenizer", parts["text_encoder"])
    if two:
        parts["text_encoder_2"] = text_encoder("text_encoder_2", TEXT_ENCODER_2, True)
        parts["tokenizer_2"] = _tokenizer(folder / "tokenizer_2", parts["text_encoder_2"])
    return parts


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object, with or without a byte order mark. Raises FileNotFoundError or ValueError with a sentence."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent.parent} has no folder {path.parent.name}. {_ADVICE}")
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}. {_ADVICE}")
    try:
        found = json.loads(path.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not text in UTF-8. {_ADVICE}") from None
    except (ValueError, RecursionError):
        raise ValueError(f"{path} is not valid JSON. {_ADVICE}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds no JSON object, which would begin with a brace. {_ADVICE}")
    return found


def _check_family(folder: Path) -> bool:
    """Tell whether the model has two text encoders. Raises ValueError for other families."""
    index_path = folder / "model_index.json"
    if not index_path.is_file():
        raise FileNotFoundError(
            f"{folder} is not a diffusion model in the layout of diffusers: it has no model_index.json. "
            "Give the folder that holds unet, vae, text_encoder, tokenizer and scheduler, or a checkpoint as one safetensors file."
        )
    index = read_json(index_path)
    two = _kind(index, "text_encoder_2") is not None
    wanted = _COMPONENTS | (_SECOND if two else {})
    unfit = [
        f"{part} is {_kind(index, part) or 'missing'}" for part, kind in wanted.items() if _kind(index, part) != kind
    ]
    extra = [f"it has a {part}" for part in _OTHER_FAMILIES if _kind(index, part) is not None]
    if unfit or extra:
        raise ValueError(
            f"{folder} holds a {index.get('_class_name', 'model of an unknown kind')}, which is of another family "
            f"({'; '.join(unfit + extra)}). Give a Stable Diffusion 1.x, 2.x or SDXL model."
        )
    return two


def _kind(index: dict[str, Any], part: str) -> str | None:
    """Return the class of a part that the index names; None: none."""
    named = index.get(part)
    kind = named[-1] if isinstance(named, list) and named else None
    if not isinstance(kind, str):
        return None
    return kind.removesuffix("Fast") if part.startswith("tokenizer") else kind


def weight_files(folder: Path, stem: str, half: bool) -> list[Path]:
    """Find the files with a part's weights: one, or several with an index. Raises FileNotFoundError or ValueError with a
    sentence."""
    variants = [*_HALF_VARIANTS, ""] if half else ["", *_HALF_VARIANTS]
    for variant in variants:
        middle = f".{variant}" if variant else ""
        if (whole := folder / f"{stem}{middle}.safetensors").is_file():
            return [whole]
        # diffusers writes the variant behind "index", and in front of it too in older versions.
        for name in (f"{stem}.safetensors.index{middle}.json", f"{stem}{middle}.safetensors.index.json"):
            if (folder / name).is_file():
                return _listed(folder / name)
    if others := sorted(folder.glob(f"{stem}.*.safetensors")):
        return others[:1]
    pickled = [path.name for path in (*folder.glob("*.bin"), *folder.glob("*.ckpt"))]
    said = f"only {pickled[0]}, a pickle, which could hold a program" if pickled else "no weights"
    raise FileNotFoundError(f"{folder} holds {said}; get a copy of the model with weights as safetensors.")


def _listed(index: Path) -> list[Path]:
    """Return the files that an index of weights lists."""
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise ValueError(f"{index} lists no weights. {_ADVICE}")
    files = sorted(set(names.values()))
    if outside := [name for name in files if Path(name).name != name]:
        raise ValueError(f"{index} names a file outside of its folder, {outside[0]}. {_ADVICE}")
    if absent := [name for name in files if not (index.parent / name).is_file()]:
        raise FileNotFoundError(f"There is no file {index.parent / absent[0]}, which {index.name} names. {_ADVICE}")
    return [index.parent / name for name in files]


def _tokenizer(folder: Path, encoder: Any) -> Any:
    """Read the tokenizer of a text encoder. Raises FileNotFoundError or ValueError with a sentence."""
    from transformers import CLIPTokenizer

    if not folder.is_dir():
        raise FileNotFoundError(f"{folder.parent} has no folder {folder.name}. {_ADVICE}")
    whole = (folder / "tokenizer.json").is_file()
    if absent := [name for name in ("vocab.json", "merges.txt") if not whole and not (folder / name).is_file()]:
        raise FileNotFoundError(f"There is no file {folder / absent[0]}. {_ADVICE}")
    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        marks = tokenizer("").input_ids
        largest = max(tokenizer.get_vocab().values())
    except Exception as error:  # whatever the library makes of files that it cannot read
        if is_out_of_memory(error):
            raise
        raise ValueError(f"The tokenizer in {folder} cannot be read. {_ADVICE}") from error
    if len(marks) != 2:
        raise ValueError(f"The tokenizer in {folder} does not put a token before and behind a text. {_ADVICE}")
    if largest >= encoder.config.vocab_size:
        raise ValueError(
            f"The tokenizer in {folder} has {largest + 1} tokens and its text encoder {encoder.config.vocab_size}. "
            "Get a copy whose files belong together."
        )
    return tokenizer
