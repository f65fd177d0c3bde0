"""What the ffmpeg of this machine shows of a video: the frames and times that decoders are compared with."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

needs_ffmpeg = pytest.mark.skipif(
    shutil.which("ffmpeg") is None, reason="ffmpeg is not installed (Debian: apt install ffmpeg)"
)
_SHOWN = re.compile(r"showinfo.*? n: *\d+ pts: *\S+ pts_time:(\S+) .*? s:(\d+)x(\d+)")


class Reference(NamedTuple):
    """A frame that ffmpeg shows: its seconds, and its (H, W, 3) image."""

    time: float
    image: npt.NDArray[np.uint8]


def shown_by_ffmpeg(path: Path, filters: str = "") -> list[Reference]:
    """Return all frames that ffmpeg shows, after filters."""
    chain = f"{filters},showinfo" if filters else "showinfo"
    command = ["ffmpeg", "-hide_banner", "-nostdin", "-threads", "1", "-i", f"file:{path}", "-an"]
    command += ["-vsync", "passthrough", "-autoscale", "0", "-vf", chain, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    done = subprocess.run(command, capture_output=True, check=False, timeout=120)
    frames, position = [], 0
    for time, width, height in _SHOWN.findall(done.stderr.decode("utf-8", "replace")):
        count = int(width) * int(height) * 3
        image = np.frombuffer(done.stdout, np.uint8, count, position).reshape(int(height), int(width), 3)
        frames.append(Reference(float(time), image))
        position += count
    assert position == len(done.stdout)
    return frames
