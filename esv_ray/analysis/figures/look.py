"""How a figure looks: its colors, its width, and its words for classes and values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from esv_ray.show.chart import check_figures
from esv_ray.show.text import ClassText, distinct, printable, quoted
from esv_ray.show.theme import LIGHT, Theme

WIDE, NARROW = 760, 328
"""Widths of figures in pixels: of a page or a paper, and of a phone 360 pixels wide."""
_MOST_NAME = 300  # characters of a class name: eight lines on a phone


@dataclass(frozen=True)
class Look:
    """What a chart needs to know besides its table.

    Attributes:
        names: class names by id, or None.
        theme: colors.
        width: of the whole figure, in pixels.
        unit: of scores and ESVs: `probability` or `logit`.
        note: what the figure leaves out; "" if nothing.
        keyed: whether marks lead to the videos that they stand for (`figures.keys`).
        brief: whether headings of panels leave out what they show, and rankings most rows: a page says it beside the
            figure, and has the table.
    """

    names: Sequence[str] | None = None
    theme: Theme = LIGHT
    width: int = WIDE
    unit: str = "probability"
    brief: bool = False
    note: str = ""
    keyed: bool = False

    def heading(self, finding: str) -> str:
        """Return the heading of a panel.

        Args:
            finding: what it is of, a colon, and what it shows: `8 elements: the last one supports most`.
        """
        return finding.partition(": ")[0] if self.brief else finding

    @property
    def narrow(self) -> bool:
        """Whether there is no room for two things side by side."""
        return self.width < 520

    @property
    def padding(self) -> int:
        """Pixels around the figure."""
        return 4 if self.narrow else 14

    @property
    def inner(self) -> int:
        """Pixels inside the padding."""
        return self.width - 2 * self.padding

    @property
    def columns(self) -> int:
        """Number of small panels side by side."""
        return 1 if self.narrow else 2

    @property
    def column(self) -> int:
        """Width of one of the small panels, with its axis."""
        return (self.inner - 20 * (self.columns - 1)) // self.columns

    def plot_width(self, small: bool = False, axis: int = 56) -> int:
        """Return the width of a plot with a vertical axis and its labels on its left.

        Args:
            small: whether it is one of the panels side by side.
            axis: pixels that axis and labels take.
        """
        return max(80, (self.column if small else self.inner) - axis)

    def class_name(self, class_id: int | None) -> str:
        """Return a class in words: its name, or its id; `all classes` for None.

        Names are whole, unless one alone would fill a screen.
        """
        if class_id is None:
            return "all classes"
        names = self.names or ()
        name = names[class_id] if 0 <= class_id < len(names) else ""
        if len(name) > _MOST_NAME:
            return distinct([ClassText(name, class_id)], _MOST_NAME, names)[0]
        return printable(name).strip() or f"class {class_id}"

    def class_quoted(self, class_id: int | None) -> str:
        """Return a class in words for a sentence: a name is in quotation marks."""
        known = class_id is not None and self.names is not None and 0 <= class_id < len(self.names)
        return quoted(self.class_name(class_id)) if known else self.class_name(class_id)


def vega() -> Any:
    """Return the module altair, which is imported when a figure is made, not before.

    Raises:
        SpecError: the libraries of figures are not installed.
    """
    check_figures()
    import altair

    return altair
