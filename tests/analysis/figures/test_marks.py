"""What each figure draws: marks are counted, and findings compared with numpy."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from esv_ray.analysis.figures.rows import by_length
from tests.analysis.figures.drawing import CLASSES, NAMES, VIDEOS, N, svg, svg_of, tables
from tests.support import facet_tables as made

VIDEOS_MADE = made.made_up(VIDEOS, N, CLASSES)


def test_supporting_elements() -> None:
    shown = sum(1 for videos in tables()["support"].column("videos").to_pylist() if videos)
    assert made.marks(svg("support"), "rect") == shown
    counts = (VIDEOS_MADE.esv > 0).sum(1)
    correct = VIDEOS_MADE.label == VIDEOS_MADE.predicted
    assert f"{counts[correct].mean():.1f} supporting if classified correctly" in svg("support")
    unlabelled = pa.table({"n_elements": [2, 2], "correct": pa.nulls(2), "supporting": [0, 2], "videos": [3, 1]})
    text = svg_of("support", unlabelled)
    assert "0.5 supporting if without a label" in text
    assert made.marks(text, "rect") == 2


def test_positions() -> None:
    best = np.bincount(VIDEOS_MADE.esv.argmax(1), minlength=N)
    worst = np.bincount(VIDEOS_MADE.esv.argmin(1), minlength=N)
    assert made.marks(svg("positions"), "rect") == (best > 0).sum() + (worst > 0).sum()
    assert made.marks(svg("positions"), "rule") == 1, "chance"
    assert f"most often element {best.argmax()} (the " in svg("positions")


def test_intervals_of_bars() -> None:
    table = tables()["support"].filter(pa.compute.greater(tables()["support"].column("videos"), 0))
    for name, value in (("low", 0.1), ("high", 0.2)):
        table = table.append_column(name, pa.array([value] * len(table)))
    assert made.marks(svg_of("support", table), "rule") == len(table)
    table = tables()["positions"]
    for name, value in (("low", 0.1), ("high", 0.2)):
        table = table.append_column(f"most_supporting_{name}", pa.array([value] * len(table)))
    assert made.marks(svg_of("positions", table), "rule") == N + 1, "and chance"


def test_long_sequences_are_binned() -> None:
    text = svg_of("positions", made.positions(made.made_up(300, 100, 4)))
    assert made.marks(text, "rect") <= 2 * 40
    assert "0-2" in made.texts(text)


def test_pairs() -> None:
    panels = 1 + 3
    assert made.marks(svg("pairs"), "rect") == panels * N * (N - 1)
    unsure = tables()["pairs"].filter(pa.compute.is_null(tables()["pairs"].column("class"))).to_pylist()
    dots = sum(1 for row in unsure if row["low"] <= 0.5 <= row["high"])
    table = tables()["pairs"].filter(pa.compute.is_null(tables()["pairs"].column("class")))
    text = svg_of("pairs", table)
    assert made.marks(text, "symbol") == dots
    assert made.marks(text, "text") == N * (N - 1), "numbers, where there is room"


@pytest.mark.slow
def test_interactions() -> None:
    assert made.marks(svg("interactions"), "rect") == (1 + 3) * N * (N - 1) // 2
    large = made.made_up(30, 40, 2)
    assert made.marks(svg_of("interactions", made.interactions(large)), "rect") <= 3 * 20 * 21 // 2


@pytest.mark.parametrize(("facet", "boxes"), [("marginals", N), ("smoothness", 6)])
def test_boxes(facet: str, boxes: int) -> None:
    assert made.marks(svg(facet), "symbol") == boxes
    assert made.marks(svg(facet), "rule") == boxes + 1, "and the zero line"


@pytest.mark.slow
def test_most_misled_videos() -> None:
    assert made.marks(svg("contrasts"), "rect") == 6 * N
    difference = VIDEOS_MADE.esv - VIDEOS_MADE.other
    assert f"video-{difference.min(1).argmin():06d}" in made.texts(svg("contrasts"))
    assert "most misleading: element" in svg("contrasts")
    few = made.contrasts(VIDEOS_MADE, stderr=True)
    assert made.marks(svg_of("contrasts", few), "rule") == 6 * (N + 1), "standard errors and zero lines"


def test_classes() -> None:
    count = len(np.unique(VIDEOS_MADE.label))
    assert made.marks(svg("classes"), "rect") == 2 * count
    assert made.marks(svg("classes"), "rule") == count
    words = " ".join(made.texts(svg("classes")).split())
    assert all(NAMES[each].split()[0] in words for each in np.unique(VIDEOS_MADE.label))


@pytest.mark.slow
def test_all_classes_of_a_large_data_set() -> None:
    names = made.something_like()
    large = made.made_up(2000, 4, 174)
    count = len(np.unique(large.label))
    assert made.marks(svg_of("classes", made.classes(large, names), names), "rule") == count
    assert count > 150


def test_confusions() -> None:
    assert made.marks(svg("confusions"), "rect") == min(20, tables()["confusions"].num_rows)
    wrong = int((VIDEOS_MADE.label != VIDEOS_MADE.predicted).sum())
    assert f"{wrong} videos misclassified" in svg("confusions")


def test_profiles() -> None:
    panels = 1 + 6
    assert made.marks(svg("profiles"), "symbol") == panels * N
    assert made.marks(svg("profiles"), "area") == panels


@pytest.mark.slow
def test_discards() -> None:
    text = svg("discards")
    assert made.marks(text, "line") == 6 + 6 + 5 + 5
    assert made.marks(text, "area") == 2 + 1 + 1, "bands of the orders by ESVs, and of ESV beside other methods"
    alone = svg_of("discards", made.discards(VIDEOS_MADE, methods=("esv",)))
    assert made.marks(alone, "line") == 6 + 6
    assert all(order in made.texts(alone) for order in ("largest ESV first", "from the center", "at random"))
    intervals = pa.table({name: tables()["discards"].column(name) for name in tables()["discards"].column_names})
    for name, shift in (("accuracy_low", -0.1), ("accuracy_high", 0.1)):
        intervals = intervals.append_column(name, pa.compute.add(intervals.column("accuracy"), shift))
    assert made.marks(svg_of("discards", intervals), "area") == 2 + 2 + 1 + 1


@pytest.mark.slow
def test_discards_of_one_element_are_left_out_beside_longer_ones() -> None:
    one, longer = made.discards(made.made_up(12, 1, 2, seed=5)), made.discards(made.made_up(12, 5, 2, seed=5))
    assert "1 element:" in made.texts(svg_of("discards", one))
    both = made.texts(svg_of("discards", pa.concat_tables([one, longer])))
    assert "5 elements: score" in both
    assert "1 element:" not in both


def test_moments() -> None:
    assert made.marks(svg("moments"), "rect") == 3 * 5
    assert made.marks(svg("moments"), "rule") == 3 * 5


@pytest.mark.slow
def test_areas() -> None:
    assert made.marks(svg("areas"), "rect") == 6 * 5
    assert made.marks(svg("areas"), "rule") == 6 * 5
    assert made.marks(svg_of("areas", made.areas(VIDEOS_MADE, intervals=False)), "rule") == 0


@pytest.mark.slow
def test_replacements() -> None:
    text = svg("replacements")
    assert made.marks(text, "rect") == 2 * 15
    assert made.marks(text, "rule") == 2 * 15 * 2, "intervals, and the area in random order"
    table = tables()["replacements"]
    alone = svg_of("replacements", table.filter(pa.compute.equal(table.column("method"), "esv")))
    assert made.marks(alone, "rect") == 2 * 3
    assert "left out 0.200, neighbor 0.230, mean element 0.260" in alone


def test_needed() -> None:
    assert made.marks(svg("needed"), "line") == 1
    classes = sum(1 for count in np.bincount(VIDEOS_MADE.label) if count >= 5)
    assert made.marks(svg("needed"), "symbol") == N + 1 + classes
    whole = pa.table(
        {"class": pa.nulls(3, pa.int32()), "n_elements": [3] * 3, "elements": [1, 2, 3], "videos": [1, 6, 3]}
    )
    assert "2 or fewer are enough for 70 % of videos" in svg_of("needed", whole)


def test_order() -> None:
    classes = sum(1 for count in np.bincount(VIDEOS_MADE.label) if count >= 5)
    assert made.marks(svg("order"), "symbol") == 1 + classes
    assert made.marks(svg("order"), "rule") == 1 + classes + 1, "intervals and the zero line"


def test_sanity_and_agreement() -> None:
    assert made.marks(svg("sanity"), "symbol") == 4
    assert "the rank correlation is \N{MINUS SIGN}0.03 with 3 layers" in svg("sanity")
    assert made.marks(svg("agreement"), "rect") == 2 * 25
    assert "integrated gradients" in made.texts(svg("agreement"))


def test_convergence() -> None:
    rows = tables()["convergence"].to_pylist()
    with_error = sum(1 for row in rows if row["standard_error"] == row["standard_error"])
    assert made.marks(svg("convergence"), "symbol") == len(rows) + with_error


@pytest.mark.slow
def test_compare() -> None:
    assert made.marks(svg("compare"), "symbol") == made.marks(svg("compare"), "rule") == 2 + 3
    texts = made.texts(svg("compare"))
    assert "B \N{MINUS SIGN} A: +5.0 points (+1.0 to +9.0, paired by video)" in texts
    assert "6 elements: accuracy 61 % in A and 66 % in B; mean rank correlation within a video 0.77" in svg("compare")
    unlabelled = tables()["compare"]
    for name in unlabelled.column_names:
        if name.startswith("accuracy"):
            unlabelled = unlabelled.set_column(unlabelled.column_names.index(name), name, pa.nulls(1, pa.float64()))
    assert made.marks(svg_of("compare", unlabelled), "symbol") == 3
    assert "accuracy" not in made.texts(svg_of("compare", unlabelled)).replace("Accuracy", "")


def test_correlations() -> None:
    rows = tables()["correlations"].to_pylist()
    assert made.marks(svg("correlations"), "rect") == sum(1 for row in rows if row["videos"])
    above = next(
        lower
        for lower in sorted((row["lower"] for row in rows), reverse=True)
        if 2 * sum(row["videos"] for row in rows if row["lower"] >= lower) >= VIDEOS
    )
    share = 100 * sum(row["videos"] for row in rows if row["lower"] >= above) / VIDEOS
    assert f"{above:.1f} or more in {share:.0f} % of {VIDEOS} videos" in svg("correlations")
    few = pa.table({"n_elements": [4, 4], "lower": [-0.1, 0.9], "upper": [0.0, 1.0], "videos": [1, 3]})
    text = svg_of("correlations", few)
    assert text.count("#d55e00") == 1, "one bar below 0"


def test_lengths_are_those_of_most_videos() -> None:
    """Longer sequences have more rows of the same videos; of equal numbers the longest is drawn, as pages show it."""
    videos = {3: 9, 20: 5, 7: 9}
    rows = [{"n_elements": n, "element": i, "videos": videos[n]} for n in videos for i in range(n)]
    assert [n for n, _ in by_length(rows, "videos", 1, repeated=True)[0]] == [7]
    assert [n for n, _ in by_length(rows, "videos", 2, repeated=True)[0]] == [3, 7]
    counted = [{"n_elements": n, "count": videos[n] * n} for n in (3, 20)]
    assert [n for n, _ in by_length(counted, "count", 1)[0]] == [3]
    classes = [{"n_elements": n, "videos": 6} for n in (1, 5, 7)]
    assert [n for n, _ in by_length(classes, "videos", 2)[0]] == [5, 7]
