"""Scenes of rendered videos: an event that decides the class, another that distracts, and a ball that swings.

Classes come in pairs, and the second class of a pair is the first one backward: a video of it is a video of the first
with its frames in reverse order. Everything else is drawn from distributions that reversal does not change. So the set
of a video's frames says nothing about which class of the pair it is: their order alone does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, get_args

import numpy as np

Action = Literal["move", "appear", "approach", "cover"]
Form = Literal["disc", "square", "diamond"]
ACTIONS: tuple[Action, ...] = get_args(Action)
FORMS: tuple[Form, ...] = get_args(Form)

FRAMES, SIDE, RATE = 48, 128, 12
"""Frames of a video, pixels of a frame's sides, and frames per second."""
CLASSES = (
    "moves left to right",
    "moves right to left",
    "appears",
    "disappears",
    "approaches",
    "moves apart",
    "covers",
    "uncovers",
)
"""Names by class id; class 2 k is action k, and class 2 k + 1 the same backwards."""
_DECIDING, _DISTRACTING = (18, 24), (12, 16)  # fewest and most frames of an event
_SPREAD = {"move": (0, 34), "appear": (24, 24), "approach": (14, 30), "cover": (24, 24)}
"""Most pixels from the middle of the frame to that of an event, in x and in y."""
_TURNS = {"move": (0,), "appear": (0,), "approach": (0, 2), "cover": (0, 1, 2, 3)}
"""Directions of an event's axis, in quarters of a turn."""
_TILT = 0.3  # most radians between such a direction and the axis


@dataclass(frozen=True)
class Event:
    """Shapes that appear in some of the frames.

    Attributes:
        action: what they do.
        start, length: frame of a video in which they come, and number of frames.
        backwards: whether they do it backwards.
        form: of the shapes.
        center: x and y in pixels; of a moving shape the middle of its way.
        radius: of a shape, in pixels.
        angle: of the axis along which shapes or the cover move, in radians.
        tint: 0..1, where in the range of the event's colors.
    """

    action: Action
    start: int
    length: int
    backwards: bool
    form: Form
    center: tuple[float, float]
    radius: float
    angle: float
    tint: float

    @property
    def last(self) -> int:
        """The last frame."""
        return self.start + self.length - 1


class Ball(NamedTuple):
    """A gray ball that swings from side to side: its middle and its swing in pixels, swings per video, and phase."""

    x: float
    y: float
    swing: float
    times: float
    phase: float


@dataclass(frozen=True)
class Scene:
    """A video before it is drawn.

    Attributes:
        deciding: event in warm colors, which decides the class.
        distracting: event in cold colors, of any class.
        ball: swings all the time.
        light: brightness at the left and at the right, 0..1.
        backwards: whether the frames are shown in reverse order.
    """

    deciding: Event
    distracting: Event
    ball: Ball
    light: tuple[float, float]
    backwards: bool

    @property
    def label(self) -> int:
        """Class id."""
        return 2 * ACTIONS.index(self.deciding.action) + self.backwards

    @property
    def key(self) -> tuple[int, int]:
        """The first and the last deciding frame, in the order in which frames are shown."""
        return self._shown(self.deciding)

    @property
    def distraction(self) -> tuple[int, int]:
        """The first and the last frame of the distracting event, in the order in which frames are shown."""
        return self._shown(self.distracting)

    def reversed(self) -> Scene:
        """Return the same video with its frames in reverse order, which is of the other class of the pair."""
        return replace(self, backwards=not self.backwards)

    def _shown(self, event: Event) -> tuple[int, int]:
        return (FRAMES - 1 - event.last, FRAMES - 1 - event.start) if self.backwards else (event.start, event.last)


def scene_of(label: int, rng: np.random.Generator) -> Scene:
    """Draw a video of a class.

    Args:
        label: class id.
        rng: source of everything but the class.
    """
    pair, backwards = divmod(label, 2)
    lengths = np.array([rng.integers(*most, endpoint=True) for most in (_DECIDING, _DISTRACTING)])
    first, second = np.sort(rng.integers(0, FRAMES - lengths.sum() + 1, 2))  # frames without an event before each
    starts = (first, second + lengths[0]) if rng.random() < 0.5 else (second + lengths[1], first)
    deciding = _event(ACTIONS[pair], int(starts[0]), int(lengths[0]), rng, backwards=False)
    other = ACTIONS[rng.integers(len(ACTIONS))]
    distracting = _event(other, int(starts[1]), int(lengths[1]), rng, backwards=bool(rng.random() < 0.5))
    x, y = rng.uniform(SIDE / 5, 4 * SIDE / 5, 2)
    ball = Ball(float(x), float(y), rng.uniform(8, 24), rng.uniform(1, 3), rng.uniform(0, 2 * np.pi))
    left, right = rng.uniform(0.25, 0.75, 2)
    return Scene(deciding, distracting, ball, (float(left), float(right)), bool(backwards))


def _event(action: Action, start: int, length: int, rng: np.random.Generator, *, backwards: bool) -> Event:
    """Draw where an event takes place, and what its shapes look like."""
    x, y = SIDE / 2 + np.array(_SPREAD[action]) * rng.uniform(-1, 1, 2)
    return Event(
        action,
        start,
        length,
        backwards,
        form=FORMS[rng.integers(len(FORMS))],
        center=(float(x), float(y)),
        radius=float(rng.uniform(12, 15)),
        angle=float(rng.uniform(-_TILT, _TILT) + rng.choice(_TURNS[action]) * np.pi / 2),
        tint=float(rng.random()),
    )
