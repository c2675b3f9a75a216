"""Films: frames written one after the other as a .mp4, a .webp or a .gif."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .terminal import UsageError

QUALITY = "16"  # of H.264: hardly to be told from the frames themselves
ENCODERS = ("libx264", "h264", "libopenh264", "mpeg4")
"""Names of encoders for .mp4, the best first; which there are depends on how PyAV was built."""


def require_film(path: Path) -> None:
    """Raise UsageError when a film of this ending cannot be written here."""
    if path.suffix.lower() not in WRITERS:
        raise UsageError(f"{path} ends in none of {', '.join(WRITERS)}; the ending says what kind of film to write.")
    if path.suffix.lower() == ".mp4":
        _av()


@contextmanager
def film(path: Path, rate: float) -> Iterator[Callable]:
    """Give a function that adds a Pillow picture, all of one size, to a film of `rate` frames a second, which is there,
    whole, after the body."""
    from ..training.files import replacing

    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, WRITERS[path.suffix.lower()](temporary, rate) as add:
        yield add


@contextmanager
def _mp4(path: Path, rate: float) -> Iterator[Callable]:
    av = _av()
    from fractions import Fraction

    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = None

        def add(picture) -> None:
            nonlocal stream
            picture = picture.convert("RGB")
            if stream is None:
                stream = container.add_stream(_encoder(av), rate=Fraction(rate).limit_denominator(1000))
                # Both sides even: colours are kept for two by two pixels.
                stream.width, stream.height = (side + side % 2 for side in picture.size)
                stream.pix_fmt = "yuv420p"
                stream.options = {"crf": QUALITY, "preset": "slow"} if "264" in stream.codec.name else {"q": "2"}
            if picture.size != (stream.width, stream.height):
                picture = _padded(picture, stream.width, stream.height)
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))

        yield add
        if stream is not None:
            container.mux(stream.encode(None))


@contextmanager
def _pillow(path: Path, rate: float, kind: str, **options) -> Iterator[Callable]:
    """By Pillow, which asks for one frame after the other, in a thread of its own."""
    import queue
    import threading

    frames: queue.Queue = queue.Queue(maxsize=4)
    failed: list[BaseException] = []

    def coming() -> Iterator:
        while (frame := frames.get()) is not None:
            yield frame

    def write() -> None:
        try:
            first = frames.get()
            if first is not None:
                duration = max(1, round(1000 / rate))
                first.save(path, kind, save_all=True, append_images=coming(), duration=duration, loop=0, **options)
        except BaseException as error:
            failed.append(error)
            while frames.get() is not None:  # whoever adds must not wait for ever
                pass

    thread = threading.Thread(target=write, daemon=True)
    thread.start()

    def add(picture) -> None:
        if failed:
            raise failed[0]
        frames.put(picture)

    try:
        yield add
    finally:
        frames.put(None)
        thread.join()
    if failed:
        raise failed[0]


WRITERS = {
    ".mp4": _mp4,
    ".webp": lambda path, rate: _pillow(path, rate, "WEBP", quality=90, method=4),
    ".gif": lambda path, rate: _pillow(path, rate, "GIF"),
}
"""What writes a film, by the ending of its file."""


def _av():
    try:
        import av
    except ImportError as error:
        raise UsageError(
            f'A film as .mp4 needs the package PyAV, which cannot be imported ({error}). Install it with "pip install av" '
            "(the extra film), or write a .webp."
        ) from None
    return av


def _encoder(av) -> str:
    for name in ENCODERS:
        try:
            av.codec.Codec(name, "w")
            return name
        except ValueError:  # av.codec.codec.UnknownCodecError
            continue
    raise UsageError("This PyAV was built without an encoder for .mp4; write a .webp, or install another build of av.")


def _padded(picture, width: int, height: int):
    """The picture with its last row and column once more where a side was odd."""
    from PIL import ImageOps

    wide, high = picture.size
    larger = ImageOps.expand(picture, (0, 0, width - wide, height - high))
    if width > wide:
        larger.paste(picture.crop((wide - 1, 0, wide, high)), (wide, 0))
    if height > high:
        larger.paste(larger.crop((0, high - 1, width, high)), (0, high))
    return larger
