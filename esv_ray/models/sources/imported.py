"""A model that a source has read, before its class prior is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from esv_ray.core.games.model import VideoModel

Row = tuple[str, str]
"""A heading and a text of the summary of an import."""


@dataclass(frozen=True, eq=False)
class Imported:
    """A model read from files or a module; `importing.import_bundles` gives it a prior and writes its bundle.

    A source checks the files and the weights when it reads them. It does not know the prior.

    Attributes:
        found: kind and sizes of the model for the summary, without D and C: ``TSN``, ``TRN of 8 segments: ...``.
        f: what F is, in a line: ``mean of the logits of the elements``.
        feature_dim: D.
        n_classes: C, the number of outputs.
        model: returns the model with a prior, (C,) float64; called for its outputs.
        save: writes the bundle: folder, prior (C,), C names or None. The same bundle is left as it is, another one
            refused.
        cut: returns the same model with its outputs from a first to an end only; None: its outputs cannot be cut. The
            range has been checked.
        rows: further rows of the summary: ``not used``, ``note``.
        classes: C names that the files say, used where no others are given; or None.
    """

    found: str
    f: str
    feature_dim: int
    n_classes: int
    model: Callable[[Tensor], VideoModel]
    save: Callable[[str, Tensor, tuple[str, ...] | None], None]
    cut: Callable[[int, int], Imported] | None = None
    rows: tuple[Row, ...] = ()
    classes: tuple[str, ...] | None = None
