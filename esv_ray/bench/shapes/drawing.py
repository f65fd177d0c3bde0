"""Draw the frames of a scene with numpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from esv_ray.bench.shapes.scenes import FRAMES, SIDE, Event, Form, Scene

Frames = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.floating[Any]]
Color = tuple[int, int, int]

_WARM: tuple[Color, ...] = ((225, 40, 30), (240, 80, 25), (250, 215, 60))
_COLD: tuple[Color, ...] = ((30, 60, 215), (20, 150, 220), (70, 215, 190))
"""Colors of the shapes, from tint 0 to tint 1, and of the cover."""
_GRAY: Color = (120, 120, 120)
_BALL = 9.0
"""Radius of the ball."""
_WAY = 42  # pixels from the middle of a way to its ends
_COVER = 24.0  # radius of a disc of the cover's area: it is larger than any shape
_SMALLEST, _LARGEST = 0.4, 1.8  # radius of a shape that appears, as a part of its own
_SAME_AREA = np.sqrt(np.pi) / 2  # half of the side of a square with the area of a disc of radius 1


def draw(scene: Scene) -> Frames:
    """Return the frames of a video, (T, H, W, 3) RGB."""
    light = np.linspace(*scene.light, SIDE, dtype=np.float32)  # (W,)
    image = np.empty((FRAMES, SIDE, SIDE, 3), np.uint8)
    image[:] = np.round(255 * light)[:, None].astype(np.uint8)
    x, y, swing, times, phase = scene.ball
    turn = np.sin(2 * np.pi * times * np.arange(FRAMES) / FRAMES + phase)
    _paint(image, "disc", x + swing * turn, np.full(FRAMES, y), np.full(FRAMES, _BALL), _GRAY)
    for event, colors in ((scene.distracting, _COLD), (scene.deciding, _WARM)):
        _act(image[event.start : event.last + 1], event, colors)
    return image[::-1] if scene.backwards else image


def _act(image: Frames, event: Event, colors: Sequence[Color]) -> None:
    """Draw an event into its frames, (length, H, W, 3)."""
    place = np.linspace(0, 1, event.length)
    place = place[::-1] if event.backwards else place
    x, y, radius = (np.full(event.length, value) for value in (*event.center, event.radius))
    dx, dy = np.cos(event.angle), np.sin(event.angle)
    near, far = (np.array(color, np.float64) for color in colors[:2])
    color = near + event.tint * (far - near)
    match event.action:
        case "move":
            way = _WAY * (2 * place - 1)
            _paint(image, event.form, x + way * dx, y + way * dy, radius, color)
        case "appear":
            _paint(image, event.form, x, y, radius * (_SMALLEST + (_LARGEST - _SMALLEST) * place), color)
        case "approach":
            way = _WAY + (event.radius - _WAY) * place  # they touch in the end
            _paint(image, event.form, x + way * dx, y + way * dy, radius, color)
            _paint(image, event.form, x - way * dx, y - way * dy, radius, color)
        case "cover":
            way = 2 * _COVER * (1 - place)
            _paint(image, event.form, x, y, radius, color)
            _paint(image, "square", x + way * dx, y + way * dy, np.full(event.length, _COVER), colors[2])


def _paint(image: Frames, form: Form, x: Numbers, y: Numbers, radius: Numbers, color: Numbers | Color) -> None:
    """Paint a shape into each frame of (N, H, W, 3), with a soft edge of a pixel.

    Args:
        image: the frames.
        form: of the shape.
        x, y: (N,) its center in pixels.
        radius: (N,) of a disc; the other forms have its area.
        color: of the shape.
    """
    top, bottom, left, right = *_window(y, radius), *_window(x, radius)
    part = image[:, top:bottom, left:right]
    across = np.abs(np.arange(left, right)[None, None, :] - x[:, None, None])
    down = np.abs(np.arange(top, bottom)[None, :, None] - y[:, None, None])
    match form:
        case "disc":
            beyond = np.hypot(across, down) - radius[:, None, None]
        case "square":
            beyond = np.maximum(across, down) - _SAME_AREA * radius[:, None, None]
        case "diamond":
            beyond = (across + down) / np.sqrt(2) - _SAME_AREA * radius[:, None, None]
    share = np.clip(0.5 - beyond, 0, 1)[..., None]  # of each pixel that the shape covers
    part[:] = np.round(part + share * (np.array(color) - part)).astype(np.uint8)


def _window(center: Numbers, radius: Numbers) -> tuple[int, int]:
    """Return the first pixel and the one after the last that a shape touches in any frame."""
    reach = 1.3 * radius + 2  # a diamond is the widest
    return max(0, int((center - reach).min())), min(SIDE, int((center + reach).max()) + 1)
