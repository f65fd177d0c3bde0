"""Thumbnails for a report, from pictures of any size; files that are not pictures are left out."""

from __future__ import annotations

import base64
import warnings
from collections.abc import Sequence
from io import BytesIO

from esv_ray.analysis.facets.words import counted
from esv_ray.errors import DataError, SpecError
from esv_ray.media import Media
from esv_ray.parallel import in_parallel
from esv_ray.report.drawings import shown_classes
from esv_ray.show.text import shortened
from esv_ray.show.video import AttributedVideo

SIDE = 96
"""Most pixels of a thumbnail's longer side."""
MOST_ALIGNED, MOST_PICTURES = 24, 12
"""Elements that all have their picture below their bar; of longer sequences, how many have one."""
_MOST_PIXELS = 50_000_000  # of a picture: decoding takes four bytes each
_QUALITY = 72
_MOST_TEXT = 100
_MOST_NOTES = 3  # on pictures that are missing: they are often missing of many videos


def pictured(video: AttributedVideo) -> list[int]:
    """Return the elements that have a picture: all, or of a long sequence those of the largest |ESV|, in time order."""
    places = range(video.n)
    if video.n <= MOST_ALIGNED:
        return list(places)
    esv = shown_classes(video)[0].esv
    return sorted(sorted(places, key=lambda place: -abs(float(esv[place])))[:MOST_PICTURES])


def thumbnails(
    media: Media, videos: Sequence[AttributedVideo], most_bytes: int
) -> tuple[list[list[str | None]], list[str]]:
    """Return a data URL per video and element, or None, and notes on those that are missing.

    Args:
        media: where the pictures are.
        videos: whose pictures are wanted.
        most_bytes: of all data URLs; videos after that have none.

    Raises:
        SpecError: the pictures are in videos, and the package that decodes them is not installed.
    """
    made: list[list[str | None]] = []
    notes: list[str] = []
    left = most_bytes
    found = in_parallel(lambda video: _of_video(media, video), videos, threads=media.at_once)
    for video, (urls, note) in zip(videos, found, strict=True):
        size = sum(len(url) for url in urls if url)
        if size > left:
            of = counted(len(videos) - len(made), "video")
            notes.insert(0, f"pictures of {of} are left out: the report would be too large")
            made += [[]] * (len(videos) - len(made))
            break
        left -= size
        made.append(urls if any(urls) else [])
        notes += [f"{shortened(video.video_id, _MOST_TEXT)}: {note}"] if note else []
    return made, [*notes[:_MOST_NOTES], *_others(len(notes) - _MOST_NOTES)]


def _others(count: int) -> list[str]:
    """Return a note on the videos whose notes are left out; none if there are none."""
    return [f"{counted(count, 'more video')} without some or all pictures, as these"] if count > 0 else []


def _of_video(media: Media, video: AttributedVideo) -> tuple[list[str | None], str]:
    """Return the data URLs of a video's elements, and a note on those that are missing."""
    wanted = pictured(video)
    try:
        found = media.pictures(video.video_id, [int(video.frame_index[place]) for place in wanted])
    except DataError as error:
        return [], shortened(str(error), 3 * _MOST_TEXT)
    urls: list[str | None] = [None] * video.n
    unreadable = missing = 0
    for place, data in zip(wanted, found, strict=True):
        if data is None:
            missing += 1
            continue
        urls[place] = thumbnail(data)
        unreadable += urls[place] is None
    note = [f"no picture of {counted(missing, 'frame')}"] * bool(missing)
    note += [f"{counted(unreadable, 'file')} not shown: no picture, damaged or too large"] * bool(unreadable)
    return urls, "; ".join(note)


def thumbnail(data: bytes) -> str | None:
    """Return a picture as the data URL of a small WebP; None if it cannot be decoded (`shrunk`)."""
    small = shrunk(data, SIDE)
    return None if small is None else f"data:image/webp;base64,{base64.b64encode(small).decode()}"


def shrunk(data: bytes, side: int) -> bytes | None:
    """Return a picture as a small WebP without its metadata; None if it cannot be decoded.

    A picture that claims more pixels than `_MOST_PIXELS` is not decoded.

    Args:
        data: JPEG, PNG or WebP of any size, or anything else.
        side: most pixels of the longer side.
    """
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large and of damaged pictures
            with Image.open(BytesIO(data), formats=("JPEG", "PNG", "WEBP")) as picture:
                if picture.width * picture.height > _MOST_PIXELS:
                    return None
                picture.draft("RGB", (2 * side, 2 * side))  # JPEG: decodes an eighth where that suffices
                small = ImageOps.exif_transpose(picture).convert("RGB")
    # Decoders raise errors of many kinds for damaged pictures; none is a fault of the report.
    except (OSError, ValueError, SyntaxError, EOFError, MemoryError, ArithmeticError, LookupError, TypeError,
            Image.DecompressionBombError):  # fmt: skip
        return None
    small.thumbnail((side, side))
    small.info.clear()  # a profile would be larger than the picture
    out = BytesIO()
    small.save(out, "WEBP", quality=_QUALITY)
    return out.getvalue()


def check_installed() -> None:
    """Refuse pictures where Pillow is not installed.

    Raises:
        SpecError: it is not.
    """
    try:
        import PIL  # noqa: F401
    except ImportError:
        raise SpecError("thumbnails need pillow, which is not installed: pip install 'esv-ray[figures]'") from None
