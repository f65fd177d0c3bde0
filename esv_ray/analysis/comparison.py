"""The result of comparing two outputs, and its tables."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from esv_ray.analysis.pairing import Side

ENDS = ("_low", "_high")


def _interval(*names: str) -> list[pa.Field]:
    return [pa.field(f"{name}{suffix}", pa.float64()) for name in names for suffix in ("", *ENDS)]


COMPARE = pa.schema(
    [
        pa.field("n_elements", pa.int32(), nullable=False),
        *(
            pa.field(name, pa.int64(), nullable=False)
            for name in ("videos_a", "videos_b", "videos", "labelled", "compared")
        ),
        *(pa.field(f"right_in_{name}", pa.int64(), nullable=False) for name in ("both", "a", "b", "neither")),
        *_interval("accuracy_a", "accuracy_b", "accuracy_difference", "score_a", "score_b", "score_difference"),
        *_interval("pearson", "spearman", "cosine", "difference", "in_stderrs"),
        *(pa.field(name, pa.float64()) for name in ("pearson_overall", "spearman_overall")),
    ]
)
AGREEMENT = pa.schema(
    [
        pa.field("n_elements", pa.int32(), nullable=False),
        pa.field("method_a", pa.string(), nullable=False),
        pa.field("method_b", pa.string(), nullable=False),
        pa.field("videos", pa.int64(), nullable=False),
        *(
            pa.field(f"{name}{suffix}", pa.float64())
            for names, suffixes in ((("pearson", "spearman"), ("",)), (("pearson",), ENDS), (("spearman",), ENDS))
            for name in names
            for suffix in suffixes
        ),
    ]
)
CORRELATIONS = pa.schema(
    [
        pa.field("n_elements", pa.int32(), nullable=False),
        pa.field("lower", pa.float64(), nullable=False),
        pa.field("upper", pa.float64(), nullable=False),
        pa.field("videos", pa.int64(), nullable=False),
    ]
)
CHANGES = pa.schema(
    [
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("n_elements", pa.int32(), nullable=False),
        pa.field("class", pa.int32(), nullable=False),
        pa.field("name", pa.string()),
        *(pa.field(name, pa.int32()) for name in ("label", "predicted_a", "predicted_b")),
        *(pa.field(name, pa.float64()) for name in ("score_a", "score_b", "difference", "in_stderrs")),
        *(pa.field(name, pa.float64()) for name in ("pearson", "spearman", "cosine")),
        pa.field("element", pa.int32(), nullable=False),
        *(pa.field(name, pa.float64(), nullable=False) for name in ("esv_a", "esv_b")),
    ]
)


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two outputs, or two methods of one, compared on the videos that both have.

    Attributes:
        a, b: the outputs and methods.
        shared, only_a, only_b: number of video ids in both, only in `a` and only in `b`, whatever their status.
        notes: what to know first: what is missing, and what differs besides the values.
        compare: one row per number of elements: accuracies, scores, correlations and differences, with 95 % intervals.
        agreement: one row per number of elements: correlations of the two methods, means over videos.
        correlations: how many videos have a rank correlation of their values in each tenth from -1 to 1.
        changes: the sequences that differ most.
    """

    a: Side
    b: Side
    shared: int
    only_a: int
    only_b: int
    notes: tuple[str, ...]
    compare: pa.Table
    agreement: pa.Table
    correlations: pa.Table
    changes: pa.Table

    @property
    def of_one(self) -> bool:
        """Whether two methods of one output are compared."""
        return self.a.analyzed.output == self.b.analyzed.output

    @property
    def drawn(self) -> dict[str, pa.Table]:
        """The tables that have figures; the accuracies of two methods of one output are equal and left out."""
        compare = self.compare
        for place, field in enumerate(compare.schema):
            if self.of_one and field.name.startswith("accuracy"):
                compare = compare.set_column(place, field, pa.nulls(compare.num_rows, field.type))
        return {"compare": compare, "correlations": self.correlations}

    @property
    def tables(self) -> dict[str, pa.Table]:
        """The tables by name."""
        return {
            "compare": self.compare,
            "agreement": self.agreement,
            "correlations": self.correlations,
            "changes": self.changes,
        }
