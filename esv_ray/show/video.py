"""An attributed video: what is shown of it, whatever it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from esv_ray.show.text import ClassText, distinct

_EQUAL = 2e-3  # sums that are equal, as three decimals show them
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

    def equation(self, unit: str) -> str:
        """Return the score as the prior and the sums of supporting and of distracting elements.

        With Algorithm 1 these sums have a sampling error, so that both sides may differ.
        """
        supporting, distracting = float(self.esv[self.esv > 0].sum()), float(self.esv[self.esv <= 0].sum())
        sign = "=" if abs(self.prior + supporting + distracting - self.score) < _EQUAL else "~"
        return (
            f"{unit} {self.score:.3f} {sign} prior {self.prior:.3f} + {supporting:.3f} supporting "
            f"- {abs(distracting):.3f} distracting"
        )

    @property
    def title(self) -> str:
        """The class as text: its name, or its id."""
        return f"class {self.class_id}" if not (self.name or "").strip() else str(self.name)


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

    @property
    def outcome(self) -> str:
        """Whether the video is classified correctly, and how its ESVs were computed."""
        how = "exact" if self.exact else "sampled"
        if self.label is None:
            return f"no label; {how}"
        return f"{'classified correctly' if self.label == self.predicted else 'misclassified'}; {how}"

    @property
    def has_errors(self) -> bool:
        """Whether ESVs that are shown have standard errors."""
        return any(each.stderr is not None for each in self.classes)

    def roles(self, each: ClassEsvs) -> str:
        """Return what a class is to the video, such as `` (label, predicted)``; nothing if it is neither."""
        pairs = (("label", self.label), ("predicted", self.predicted))
        roles = [role for role, class_id in pairs if class_id == each.class_id]
        return f" ({', '.join(roles)})" if roles else ""

    def short_titles(self, most: int) -> dict[int, str]:
        """Return the titles of classes by id in at most `most` cells, with the id where two would look the same."""
        titles = [ClassText(each.title, each.class_id) for each in self.classes]
        return {title.class_id: text for title, text in zip(titles, distinct(titles, most), strict=True)}

    def of_class(self, class_id: int | None) -> ClassEsvs | None:
        """Return the ESVs of a class, or None if they are not kept."""
        return next((each for each in self.classes if each.class_id == class_id), None)

    @property
    def difference(self) -> FloatArray | None:
        """(n,) ESVs of the label minus those of the predicted class (class-contrastive ESVs); None if there are none.

        There are none if the video has no label, is classified correctly, or one of the two classes is not kept.
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
