"""The result of `explain`: ESVs of one sequence, and how they are shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import index
from typing import TYPE_CHECKING, Any, NamedTuple, SupportsIndex

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from torch import Tensor

from esv_ray.core.spread import Spread
from esv_ray.errors import SpecError
from esv_ray.input.class_names import class_named
from esv_ray.show.html import bars_html
from esv_ray.show.text import shortened
from esv_ray.show.video import AttributedVideo, ClassEsvs

if TYPE_CHECKING:
    import altair
    import pandas

_MOST_NAME = 60  # characters in a repr
_LISTED = 3  # elements in a repr


class Contrast(NamedTuple):
    """Class-contrastive ESVs of one sequence of n elements.

    Attributes:
        esv: (n,) contribution of each element to one class minus its contribution to the other.
        stderr: (n,) standard errors, which account for errors shared by both classes; None if exact, or from a single
            iteration of Algorithm 1.
    """

    esv: Tensor
    stderr: Tensor | None


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """ESVs of one sequence of n elements.

    Attributes:
        esv: (n, C) contribution of each element to each class score, in probability or in logits.
        stderr: (n, C) standard errors; None if exact, from a single iteration of Algorithm 1, or from fewer than 16
            subsequences per length.
        scores: (C,) value of the full sequence, class probabilities or logits; an estimate if sampled.
        prior: (C,) value of the empty sequence; the ESVs of a class sum to scores - prior.
        evaluations: number of head evaluations; for a model without heads, of subsequences on which it was run.
        exact: whether every subsequence was evaluated.
        iterations: iterations of the sampling; 0 if exact.
        tolerance_met: whether the predicted class met the tolerance; None without one.
        classes: C names, or None.
        video_id: name of the sequence.
        output: what the ESVs attribute: `probability` or `logit`.
        spread: error model, from which `contrast` computes standard errors; None if there are none.
    """

    esv: Tensor
    stderr: Tensor | None
    scores: Tensor
    prior: Tensor
    evaluations: int
    exact: bool
    iterations: int = 0
    tolerance_met: bool | None = None
    classes: tuple[str, ...] | None = None
    video_id: str = ""
    output: str = "probability"
    spread: Spread | None = field(default=None, repr=False)

    @property
    def predicted(self) -> int:
        """Class with the largest score."""
        return int(self.scores.argmax())

    def contrast(self, a: object, b: object) -> Contrast:
        """Return class-contrastive ESVs (Price & Damen 2020): those of class a minus those of class b.

        Args:
            a: a class: its name, or its id: an integer (also of NumPy or another library) or a tensor of one element.
            b: likewise.

        Raises:
            SpecError: there is no such class.
        """
        first, second = self._class_id(a), self._class_id(b)
        esv = self.esv[:, first] - self.esv[:, second]
        if self.spread is None:
            return Contrast(esv, None)
        mix = self.esv.new_zeros((self.esv.shape[1], 1))
        mix[first] += 1
        mix[second] -= 1
        return Contrast(esv, self.spread.stderr(esv[None, :, None], mix)[0, :, 0])

    def to_arrow(self) -> pa.Table:
        """Return a table with one row per class and element: class, name, element, esv, stderr."""
        n, n_classes = self.esv.shape
        ids = np.repeat(np.arange(n_classes, dtype=np.int32), n)
        names = [None] * n_classes if self.classes is None else list(self.classes)
        stderr = None if self.stderr is None else self.stderr.T.flatten().cpu().numpy()
        return pa.table(
            {
                "class": pa.array(ids),
                "name": pa.array(names, pa.string()).take(pa.array(ids)),
                "element": pa.array(np.tile(np.arange(n, dtype=np.int32), n_classes)),
                "esv": pa.array(self.esv.T.flatten().cpu().numpy()),
                "stderr": pa.nulls(len(ids), pa.float32()) if stderr is None else pa.array(stderr),
            }
        )

    def to_pandas(self) -> pandas.DataFrame:
        """Return the table of `to_arrow` as a data frame.

        Raises:
            SpecError: pandas is not installed.
        """
        try:
            import pandas  # noqa: F401
        except ImportError:
            raise SpecError("to_pandas needs pandas, which is not installed: pip install pandas") from None
        return self.to_arrow().to_pandas()

    def plot(self, *classes: object) -> altair.VConcatChart:
        """Return a figure: a bar per element, for the predicted class or those given (as for `contrast`).

        Raises:
            SpecError: there is no such class, or the extra `figures` is not installed.
        """
        from esv_ray.show.chart import video_chart

        return video_chart(attributed_video(self, [self._class_id(each) for each in classes] or [self.predicted]))

    def __repr__(self) -> str:
        """Describe the sequence and the predicted class in at most ten lines."""
        shown = _class(self, self.predicted)
        order = shown.esv.argsort()[::-1]
        how = "exact" if self.exact else f"sampled in {self.iterations} iterations"
        lines = [
            f"Explanation of {self.video_id!r:.80}: {len(order)} elements, {self.esv.shape[1]} classes",
            f"  {how}, {self.evaluations} head evaluations",
            f"  predicted: {self.predicted}"
            + (f" {shortened(shown.name, _MOST_NAME)!r}" if shown.name else "")
            + f", {self.output} {shown.score:.4g} (prior {shown.prior:.4g})",
        ]
        supporting = [f"{place} ({shown.esv[place]:+.3g})" for place in order[:_LISTED] if shown.esv[place] > 0]
        distracting = [f"{place} ({shown.esv[place]:+.3g})" for place in order[::-1][:_LISTED] if shown.esv[place] <= 0]
        lines.append(f"  supporting elements: {', '.join(supporting) or 'none'}")
        lines.append(f"  distracting elements: {', '.join(distracting) or 'none'}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Return a small picture of the ESVs of the predicted class, for notebooks."""
        return bars_html(attributed_video(self, [self.predicted]))

    def _class_id(self, given: object) -> int:
        return class_id_of(given, self.classes, self.esv.shape[1])


def attributed_video(
    explanation: Explanation, classes: Sequence[int], frame_index: npt.NDArray[np.integer[Any]] | None = None
) -> AttributedVideo:
    """Return what is shown of a sequence.

    Args:
        explanation: of the sequence.
        classes: ids of the classes to show.
        frame_index: (n,) frame number of each element; None: its position.
    """
    return AttributedVideo(
        video_id=explanation.video_id,
        frame_index=np.arange(len(explanation.esv)) if frame_index is None else frame_index,
        label=None,
        predicted=explanation.predicted,
        classes=[_class(explanation, each) for each in dict.fromkeys(classes)],
        in_logits=explanation.output == "logit",
        exact=explanation.exact,
        evaluations=explanation.evaluations,
    )


def class_id_of(given: object, names: Sequence[str] | None, n_classes: int) -> int:
    """Return the id of a class that is given by id or by name.

    Args:
        given: a name, a whole number of any library, or an array of one element.
        names: of the classes by id, or None.
        n_classes: number of classes.

    Raises:
        SpecError: there is no such class, or several have the name.
    """
    if isinstance(given, str):
        return class_named(given, names)
    value: Any = given.item() if isinstance(given, Tensor | np.ndarray) and _size(given) == 1 else given
    if isinstance(value, SupportsIndex) and not isinstance(value, bool | np.bool_ | Tensor | np.ndarray):
        class_id = index(value)
        if 0 <= class_id < n_classes:
            return class_id
    raise SpecError(f"class: expected a class name or a number from 0 to {n_classes - 1}, got {given!r:.80}")


def _class(explanation: Explanation, class_id: int) -> ClassEsvs:
    return ClassEsvs(
        class_id,
        explanation.classes[class_id] if explanation.classes else None,
        float(explanation.scores[class_id]),
        float(explanation.prior[class_id]),
        explanation.esv[:, class_id].cpu().numpy(),
        None if explanation.stderr is None else explanation.stderr[:, class_id].cpu().numpy(),
    )


def _size(array: Any) -> int:
    return int(np.prod(array.shape))
