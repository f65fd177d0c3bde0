"""Small images of frames, as JPEG."""

from __future__ import annotations

import io

from esv_ray.errors import SpecError
from esv_ray.extraction.backbones.backbone import Images

SIDE = 160
"""Most pixels of a side."""
_QUALITY = 80


def check_installed() -> None:
    """Refuse thumbnails where Pillow is not installed.

    Raises:
        SpecError: it is not.
    """
    try:
        import PIL.Image  # noqa: F401
    except ImportError as error:
        raise SpecError("thumbnails need Pillow: pip install 'esv-ray[video]', or leave --thumbnails out") from error


def thumbnails(images: Images, side: int = SIDE) -> list[bytes]:
    """Return a JPEG of each of (N, H, W, 3) images, made smaller where a side has more pixels than `side`."""
    from PIL import Image

    files = []
    for image in images:
        picture = Image.fromarray(image)
        picture.thumbnail((side, side), Image.Resampling.BILINEAR)
        sink = io.BytesIO()
        picture.save(sink, "JPEG", quality=_QUALITY)
        files.append(sink.getvalue())
    return files
