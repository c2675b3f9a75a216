"""Words and pictures in the common space of a CLIP in a folder on disk (extra `headless`)."""

from pathlib import Path
from typing import Any

from ..metrics.clip import DEVIATION, MEAN, ImageEncoder
from .terminal import MINIATURE, UsageError

_ADVICE = (
    "give a folder of transformers with config.json, model.safetensors and the tokenizer, clip-vit-large-patch14 for "
    "example."
)


class Clip:
    """A Clip embeds images and a text. Raises ImportError, UsageError with a sentence."""

    def __init__(self, name: str, device):
        try:
            from transformers import CLIPTextModelWithProjection, CLIPTokenizer, CLIPVisionModelWithProjection
        except ImportError as error:
            raise ImportError(
                'CLIP score needs transformers; install this package with its extra "headless".'
            ) from error
        self.device = device
        words, images, tokens = _folders(name)

        def read(kind: type, folder: Path, **options) -> Any:
            try:
                return kind.from_pretrained(folder, local_files_only=True, **options)
            except Exception as error:  # of many kinds, which the library does not name
                raise UsageError(f"{folder} cannot be read as a part of CLIP; {_ADVICE}") from error

        def model(kind: type, folder: Path) -> Any:
            found, notes = read(kind, folder, use_safetensors=True, output_loading_info=True)
            if missing := sorted(notes["missing_keys"]):  # which the library fills with random numbers
                raise UsageError(f"The CLIP in {folder} is incomplete: it lacks {missing[0]}; {_ADVICE}")
            return found.eval().to(device)

        self.text = model(CLIPTextModelWithProjection, words)
        self.tokenizer = read(CLIPTokenizer, tokens)
        vision = model(CLIPVisionModelWithProjection, images)
        config = vision.config
        mean, deviation = getattr(config, "image_mean", MEAN), getattr(config, "image_std", DEVIATION)
        self.vision = ImageEncoder(vision, config.image_size, mean, deviation).to(device)

    def embed_text(self, text: str):
        """Embed a text as [D]; the first 77 tokens count."""
        import torch

        length = self.text.config.max_position_embeddings
        tokens = self.tokenizer(text, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        with torch.no_grad():
            return self.text(tokens.input_ids.to(self.device)).text_embeds[0].float().cpu()

    def embed_images(self, images):
        """Embed images [B, 3, H, W] in [-1, 1] as [B, D] on the CPU, by the square in the middle of each."""
        import torch

        with torch.no_grad():
            return self.vision(images.to(self.device)).cpu()


def _folders(name: str) -> tuple[Path, Path, Path]:
    """Where the text encoder, the image encoder and the tokenizer are."""
    from ..miniature import WEIGHTS

    if name == MINIATURE:
        return WEIGHTS / "clip" / "text", WEIGHTS / "clip" / "vision", WEIGHTS / "diffusion" / "tokenizer"
    folder = Path(name)
    if not (folder / "config.json").is_file():
        raise UsageError(f"{folder} is no CLIP in the layout of transformers: it has no config.json; {_ADVICE}")
    return folder, folder, folder
