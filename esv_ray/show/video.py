"""An attributed video: what is shown of it, whatever it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class ClassEsvs:
    """ESVs of one class.

    Attributes:
        class_id: the class.
        name: its name, or None.
        score: its value for the full sequence: a probability, or a logit.
        prior: its value for the empty sequence.
        esv: (n,) contribution of each element.
        stderr: (n,) standard errors, or None.
    """

    class_id: int
    name: str | None
    score: float
    prior: float
    esv: FloatArray
    stderr: FloatArray | None

    @property
    def title(self) -> str:
        """The class as text: its name, or its id."""
        return f"class {self.class_id}" if not self.name else self.name


@dataclass(frozen=True, eq=False)
class AttributedVideo:
    """A video and its ESVs for some classes.

    Attributes:
        video_id: the video.
        frame_index: (n,) frame number of each element.
        label: its class, or None.
        predicted: class with the largest score.
        classes: ESVs of classes, in the order in which they are shown.
        in_logits: whether values are logits.
        exact: whether the ESVs are exact.
        evaluations: head evaluations.
        difference_stderr: (n,) standard errors of the ESVs of the label minus those of the predicted class, or None.
    """

    video_id: str
    frame_index: npt.NDArray[np.integer[Any]]
    label: int | None
    predicted: int
    classes: Sequence[ClassEsvs]
    in_logits: bool
    exact: bool
    evaluations: int
    difference_stderr: FloatArray | None = None

    @property
    def n(self) -> int:
        """Number of elements."""
        return len(self.frame_index)

    @property
    def unit(self) -> str:
        """What values are."""
        return "logit" if self.in_logits else "probability"

    def of_class(self, class_id: int | None) -> ClassEsvs | None:
        """Return the ESVs of a class, or None if they are not kept."""
        return next((each for each in self.classes if each.class_id == class_id), None)

    @property
    def difference(self) -> FloatArray | None:
        """(n,) ESVs of the label minus those of the predicted class (class-contrastive ESVs); None if there are none.

        There are none if the video has no label, is classified right, or one of the two classes is not kept.
        """
        label, predicted = self.of_class(self.label), self.of_class(self.predicted)
        if label is None or predicted is None or self.label == self.predicted:
            return None
        return label.esv - predicted.esv

    @property
    def most_misleading(self) -> int | None:
        """Element that speaks most for the predicted class and against the label; None without `difference`."""
        difference = self.difference
        return None if difference is None else int(np.argmin(difference))
