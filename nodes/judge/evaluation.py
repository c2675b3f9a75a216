"""The node that measures what a generator draws."""

from collections.abc import Iterator
from functools import partial

import torch
from comfy_api.v0_0_2 import io
from torch import Tensor

from ...metrics.colours import rgb
from ...metrics.evaluation import phrases_of, require_distances
from ...metrics.judging import Space, judge
from ...metrics.report import SETS, Evaluation, evaluation_picture
from ...stylegan import Generator, crop_of, draw_codes, picture_size
from .. import clip_space
from ..drawing import from_image, picture_image, room_to_draw, sampled
from ..features import NodeWithFeatures, features_input, load_network
from ..host.device import raise_if_interrupted, retry_without_models, torch_device
from ..host.server import answer, progress_bar
from ..inputs import psi_input, seed_input
from ..on_device import on_device
from ..types import CATEGORY, GeneratorType, NamedGenerator, aliases

PIECE = 16  # images that are drawn and looked at together

OTHERWISE = "Close other programs that use the device, or start ComfyUI with --lowvram."


class EvaluateGenerator(NodeWithFeatures):
    @classmethod
    def define_schema(cls):
        drawn = [GeneratorType, io.Image]
        return io.Schema(
            node_id="StyleGANFusionEvaluateGenerator",
            display_name="Evaluate Generator",
            category=CATEGORY,
            description="Measures what a generator draws, or a batch of images: how well it fits a text (CLIP score), how "
            "far it is from images as you want them (Fréchet and kernel distance) and how varied it is (LPIPS diversity). "
            "No number is good by itself: compare with the generator before.",
            inputs=[
                io.MultiType.Input(
                    "generator", drawn, tooltip="What is measured: a generator, or a batch of images of your own."
                ),
                io.MultiType.Input(
                    "before",
                    drawn,
                    optional=True,
                    tooltip="What to compare it with: the generator before training, which draws the same latents, or "
                    "another batch of images.",
                ),
                io.Image.Input(
                    "reference",
                    optional=True,
                    tooltip="Images as you want them: photographs of the target, or images that the diffusion model drew "
                    "for the same text. As many as count or more, at least some hundred for numbers that hold. Without "
                    "them there is no Fréchet and no kernel distance.",
                ),
                io.ClipVision.Input(
                    "clip_vision",
                    optional=True,
                    tooltip="A model from Load CLIP Vision, for CLIP score, and for the features of both distances. "
                    "Without it the distances use the features that the diversity uses.",
                ),
                io.Clip.Input(
                    "clip",
                    optional=True,
                    tooltip=f"The text encoder for CLIP score. {clip_space.PAIRS}. That of a Stable Diffusion 1 checkpoint "
                    "will not do.",
                ),
                io.String.Input(
                    "text",
                    default="",
                    multiline=True,
                    tooltip="What the images shall show, for CLIP score, e.g. the prompt that you trained with. The first "
                    "77 tokens count.",
                ),
                io.Int.Input(
                    "count",
                    default=64,
                    min=2,
                    max=4096,
                    tooltip="Images that each generator draws. 64 tell a large change in seconds; 500 to 2000 tell a small "
                    "one. A batch of images is taken whole.",
                ),
                seed_input(
                    "seed",
                    0,
                    "Of the latents and of the pairs that are compared. The same seed measures the same images.",
                    control="fixed",
                ),
                psi_input(1.0),
                features_input(
                    "The network of the LPIPS diversity: that of the miniature, which has seen drawings only, or VGG16 "
                    "from a file in models/lpips. See LPIPS Regularizer. Press R for new files."
                ),
                io.String.Input(
                    "phrases",
                    optional=True,
                    default="",
                    multiline=True,
                    tooltip="Phrases that are scored by themselves, between commas or one in each line, e.g. fox, golden "
                    "crown. Empty: those of text, where it has commas.",
                ),
            ],
            outputs=[
                io.String.Output(display_name="report", tooltip="Every number in words, with what to know about it."),
                io.Image.Output(display_name="picture", tooltip="Every number as a bar with its error."),
                io.Float.Output(
                    display_name="CLIP score",
                    tooltip="100 times the cosine of image and text; higher fits better. Not a number (nan) without text, "
                    "clip and clip_vision.",
                ),
                io.Float.Output(
                    display_name="Fréchet distance",
                    tooltip="0 for equal sets; lower is nearer to the reference. Not a number (nan) without reference.",
                ),
                io.Float.Output(
                    display_name="kernel distance x 1000",
                    tooltip="About 0 for equal sets; lower is nearer to the reference. Not a number (nan) without reference.",
                ),
                io.Float.Output(
                    display_name="diversity",
                    tooltip="Mean LPIPS of two images; higher is more varied. Half of what it was before: look for collapse.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
            **aliases("fid", "kid", "lpips", "clip score", "keywords", "quality", "metrics", "stylegan"),
        )

    @classmethod
    def execute(cls, **inputs) -> io.NodeOutput:
        evaluation = evaluated(**inputs)
        names = ("CLIP score", "Fréchet distance", "Kernel distance x 1000", "Diversity")
        values, words = [evaluation.value(name) for name in names], evaluation.text()
        picture = picture_image(evaluation_picture(evaluation))
        return io.NodeOutput(words, picture, *values, ui=answer(cls.hidden.unique_id, words))


def evaluated(
    generator,
    text,
    count,
    seed,
    truncation_psi,
    features,
    before=None,
    reference=None,
    clip_vision=None,
    clip=None,
    phrases="",
) -> Evaluation:
    """Measure what the node measures of its inputs. Raises ValueError, MissingPackage, or RuntimeError when memory runs
    out."""
    given = {"generator": generator, "before": before, "reference": reference}
    sets = {
        name: _Set(what, value, count, seed, truncation_psi)
        for name, (what, value) in zip(SETS, given.items(), strict=True)
        if value is not None
    }
    if reference is not None:
        require_distances()  # before the text is embedded
    notes: list[str] = []
    target, embedded = _embedded(clip, clip_vision, text.strip(), phrases.strip(), notes)
    network = load_network(features)
    embed = partial(clip_space.image_embeddings, clip_vision) if clip_vision is not None else None
    space = embed and Space("the CLIP vision model's embeddings", embed, is_square=True)
    bar = progress_bar(2 * sum(map(len, sets.values())))

    def looked(count: int) -> None:
        raise_if_interrupted()
        bar.update(count)

    with on_device(torch_device(), network):
        found = judge(sets, network, space, embed, target, seed, on_images=looked, phrases=embedded)
    found.notes[:0] = notes
    return found


class _Set:
    """A _Set is the images that a generator draws, or a batch of images."""

    def __init__(self, what: str, value: NamedGenerator | Tensor, count: int, seed: int, psi: float):
        self.value, self.psi, self.seed = value, psi, seed
        self.drawn = isinstance(value, NamedGenerator)
        self.count = count if self.drawn else len(value)
        if self.count < 2:
            raise ValueError(f"Evaluate Generator needs 2 images or more as {what}; join images with Batch Images.")

    def __len__(self):
        return self.count

    def pieces(self) -> Iterator[Tensor]:
        """Give images [b, 3, H, W] in [-1, 1], a few at a time: many large ones are never in memory together."""
        if not self.drawn:
            for piece in self.value.split(PIECE):
                yield from_image(piece)
            return
        generator, crop = self.value.generator, crop_of(self.value.metadata)
        latents = sampled(self.value, self.seed, self.count, self.psi)
        with room_to_draw(self.value, min(PIECE, self.count), OTHERWISE), on_device(torch_device(), generator):
            for ws in latents.ws.split(PIECE):
                images = retry_without_models(lambda ws=ws: _drawn(generator, ws))
                yield rgb(images if crop is None else crop.apply(images))

    def size(self) -> tuple[int, int]:
        """Return width and height in pixels."""
        if not self.drawn:
            return self.value.shape[2], self.value.shape[1]
        return picture_size(self.value.generator, crop_of(self.value.metadata))


def _drawn(generator: Generator, ws: Tensor) -> Tensor:
    with torch.inference_mode(False):
        return torch.cat(list(draw_codes(generator, ws))).clamp(-1, 1)


def _embedded(clip, clip_vision, text: str, phrases: str, notes: list[str]) -> tuple[Tensor | None, dict[str, Tensor]]:
    """Return the embeddings of the text and of each phrase; none, and a note, where something for CLIP score is not
    there."""
    if clip is None or clip_vision is None or not (text or phrases):
        given = (("clip", clip), ("clip_vision", clip_vision), ("text", text or phrases))
        missing = [name for name, value in given if not value]
        if len(missing) < 3:
            notes.append(f"No CLIP score: it also needs {' and '.join(missing)}.")
        return None, {}
    if told := clip_space.strangers(clip, clip_vision):
        notes.append(f"Do not trust the CLIP score: {told}")
    embed = partial(clip_space.text_embedding, clip, width=clip_space.width_of(clip_vision))
    return (embed(text) if text else None), {phrase: embed(phrase) for phrase in phrases_of(text, phrases)}
