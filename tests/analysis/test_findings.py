"""What a table says in one sentence, and the size of its effect: tables by hand, laws, and tables without rows."""

from __future__ import annotations

import math
import re
import statistics
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from esv_ray.analysis.analyzed import Analyzed, Census, ClassName
from esv_ray.analysis.facets.finding import Finding, effect, effect_between, exact_ends, largest, mean_with_interval
from esv_ray.analysis.facets.registry import FACETS
from esv_ray.analysis.statistics import wilson
from esv_ray.analysis.student import quantile
from esv_ray.output.manifest import Manifest

WITH = [name for name, facet in FACETS.items() if facet.finding is not None]


def analyzed(
    explained: ClassName = "label", output: str = "probability", classes: int = 4, *, names: bool = True
) -> Analyzed:
    given = ["cat", "dog", "cow", "hen"][:classes] if names else None
    model = {"prior": [1 / classes] * classes, "classes": given}
    manifest = Manifest({"estimator": {"output": output}}, {}, "", {}, model, (), ())
    return Analyzed("out", manifest, (), 0, (), Census(0, 0, 0, 0, 0, {}, {}), explained, {})


def found(name: str, rows: list[dict[str, Any]], of: Analyzed | None = None, tables: int = 1) -> Finding | None:
    facet = FACETS[name].finding
    assert facet is not None
    return facet(pa.Table.from_pylist(rows), of or analyzed(), tables)


def of(name: str, rows: list[dict[str, Any]], context: Analyzed | None = None) -> Finding:
    finding = found(name, rows, context)
    assert finding is not None
    assert finding.facet == name
    assert finding.effect <= 1
    assert finding.clear == (finding.effect > 0)
    assert "\n" not in finding.sentence
    return finding


PARTS = st.integers(0, 1024).map(lambda part: part / 1024)  # of 1, whose differences are not rounded
INNER = st.integers(1, 1023).map(lambda part: part / 1024)


@given(PARTS, PARTS, INNER)
def test_laws_of_effects(a: float, b: float, chance: float) -> None:
    """At most 1; above 0 if the interval leaves out chance; on the same side, a narrower interval has no less."""
    low, high = min(a, b), max(a, b)
    size = effect(low, high, chance)
    assert size <= 1
    assert (size > 0) == (not low <= chance <= high)
    assert (size == -math.inf) == (low == 0 and high == 1)
    if high < chance:
        assert effect(low, low, chance) >= size
    if low > chance:
        assert effect(high, high, chance) >= size
    assert effect(1 - high, 1 - low, 1 - chance) == pytest.approx(size, abs=1e-9)  # sides are alike


@given(st.floats(0.01, 0.98), st.floats(0.02, 0.98), st.floats(0.001, 0.01), INNER)
def test_effects_continue_below_zero(low: float, high: float, step: float, chance: float) -> None:
    """An interval that moves away from chance has a larger effect, whether it leaves chance out or not yet."""
    low, high = min(low, high), max(low, high)
    up, down = effect(low + step, 1.0, chance), effect(0.0, high - step, chance)
    assert up > effect(low, 1.0, chance)
    assert down > effect(0.0, high, chance)


@given(*[PARTS] * 4)
def test_effects_between_two_means(a: float, b: float, c: float, d: float) -> None:
    """Clear if the intervals have nothing in common; then as large as against the nearer end of the other."""
    (low, high), (least, most) = sorted((a, b)), sorted((c, d))
    size = effect_between((low, high), (least, most))
    assert (size > 0) == (low > most or high < least)
    if low > most:
        assert size == pytest.approx(effect(low, 1.0, most))
    assert effect_between((low, high), (None, None)) == effect_between((None, None), (least, most)) == -math.inf


def test_ends_of_effects() -> None:
    assert effect(1.0, 1.0, 0.25) == 1
    assert effect(0.0, 0.0, 0.25) == 1
    assert effect(0.5, 0.9, 0.0) == 0.5
    assert effect(None, 0.9, 0.5) == effect(0.9, None, 0.5) == effect(float("nan"), 1.0, 0.5) == -math.inf
    assert effect(1.0, 1.0, 1.0) == -math.inf  # chance gives the same
    assert effect(0.25, 1.0, 0.5) == -0.5  # it would have to move by half of the way
    assert effect(2.0, 3.0, 8.0, least=1.0, most=8.0) == pytest.approx(5 / 7)


@given(st.lists(st.integers(0, 8), min_size=1, max_size=60))
def test_laws_of_means(values: list[int]) -> None:
    """The mean is exact, and in the middle of its interval, but for the ends of the range; few videos have none."""
    mean, low, high = mean_with_interval([(value, values.count(value)) for value in set(values)], 0, 8)
    assert mean == pytest.approx(sum(values) / len(values))
    if len(values) < 3:
        assert low is high is None
        return
    assert low is not None
    assert high is not None
    assert 0 <= low <= mean <= high <= 8
    assert high > low
    if low > 0 and high < 8 and len({*values}) > 1:
        assert mean - low == pytest.approx(high - mean)
    often = mean_with_interval([(value, 100 * values.count(value)) for value in set(values)], 0, 8)
    assert often[1] is not None
    assert often[2] is not None
    assert often[2] - often[1] < high - low


def test_interval_of_means_is_that_of_student() -> None:
    """Values that lie close together far from the middle of the range have a narrow interval around their mean."""
    values = [12] * 10 + [13] * 24 + [14] * 11
    mean, low, high = mean_with_interval([(value, values.count(value)) for value in (12, 13, 14)], 0, 14)
    half = quantile(44, 0.95) * statistics.stdev(values) / 45**0.5
    assert (low, high) == pytest.approx((mean - half, mean + half))
    assert mean_with_interval([(3, 1), (5, 0), (3, 2)], 0, 4) == mean_with_interval(
        [(3, 3)], 0, 4
    )  # groups of one value
    equal = mean_with_interval([(8, 20)], 0, 8)  # other videos, of a share that Wilson's interval leaves, may have 0
    assert equal == pytest.approx((8, 8 * float(wilson(20, 20)[0]), 8))


def test_exact_intervals_hold_for_all_that_are_compared() -> None:
    """Of 28 shares by chance of 1/14 of 45 videos, an end leaves chance out in at most 5 % of tables, at any number."""
    for videos, chance, compared in ((45, 1 / 14, 28), (5, 1 / 24, 48), (24, 0.5, 18), (3, 0.25, 8)):
        counts = np.arange(videos + 1)
        lows, highs = exact_ends(counts, videos, compared)
        out = binom.pmf(counts, videos, chance)[(lows > chance) | (highs < chance)].sum()
        assert compared * out <= 0.05
    with_wilson = wilson(np.arange(46), 45, 1 - 0.05 / 28)[0]
    assert 28 * binom.pmf(np.arange(46), 45, 1 / 14)[with_wilson > 1 / 14].sum() > 0.1
    assert np.isnan(exact_ends([1, 2], [1, 2], 1)).all()


@pytest.mark.parametrize("videos", [1, 2])
def test_one_or_two_videos_are_no_finding(videos: int) -> None:
    """Whatever is in one video is in 100 % of all."""
    assert not of("positions", positions([0.0, 0.0, 1.0] + [0.0] * 21, videos)).clear
    assert "interval" not in of("positions", positions([0.0, 1.0], videos)).sentence
    assert not of("support", support({16: videos}, 16)).clear
    rows = [{"class": None, "n_elements": 2, "element_i": i, "element_j": 1 - i, "videos": videos, "share": float(i),
             "low": 0.0, "high": 1.0} for i in range(2)]  # fmt: skip
    assert not of("pairs", rows).clear
    wrong = [{"label": 0, "predicted": 1, "n_elements": 4, "videos": videos}]
    assert found("confusions", wrong, analyzed(classes=4)) is None
    needed = [{"class": None, "n_elements": 9, "elements": k, "videos": videos * (k == 0), "share": float(k == 0)}
              for k in range(10)]  # fmt: skip
    assert not of("needed", needed).clear


@pytest.mark.parametrize("name", WITH)
def test_without_rows(name: str) -> None:
    assert found(name, []) is None


def test_the_largest() -> None:
    """Those that are clear of chance, then those that are nearest to it, each in the order given; never one without an
    interval."""
    one, two, near = Finding("a", "", 0.2), Finding("b", "", 0.9), Finding("c", "", -0.1)
    far, none = Finding("e", "", -0.5), Finding("f", "", -math.inf)
    assert largest([one, two, near, replace(one, facet="d")], 3) == [two, one, replace(one, facet="d")]
    assert largest([none, far, near, one], 3) == [one, near, far]
    assert [each.clear for each in (one, near, far, none)] == [True, False, False, False]
    assert largest([none], 3) == []


def support(counts: dict[int, int], n: int, correct: bool | None = True) -> list[dict[str, Any]]:
    return [
        {"n_elements": n, "correct": correct, "supporting": k, "videos": counts.get(k, 0), "share": 0.0}
        for k in range(n + 1)
    ]


def test_support() -> None:
    """The mean of correct and of misclassified videos together; whichever side has more; the main length alone."""
    rows = [*support({8: 900}, 8), *support({2: 300}, 8, correct=False), *support({1: 5}, 2)]
    more = of("support", rows)
    assert more.sentence.startswith("On average 6.5 of 8 elements raise the score of the label (95 % interval 6.")
    fewer = of("support", support({2: 600, 3: 600}, 8), analyzed("predicted", "logit"))
    assert fewer.sentence.startswith("On average 5.5 of 8 elements lower the logit of the predicted class")
    even = of("support", support({4: 1000}, 8))
    assert not even.clear
    assert of("support", support({0: 9, 1: 20}, 1)).sentence.startswith("On average 0.7 of 1 element raises the score")
    assert of("support", support({8: 10**6}, 8)).effect > 0.99


def positions(shares: list[float], videos: int = 1000) -> list[dict[str, Any]]:
    rows = []
    for element, share in enumerate(shares):
        row: dict[str, Any] = {"n_elements": len(shares), "element": element, "videos": videos}
        for name, value in (("most_supporting", share), ("most_distracting", 1 / len(shares))):
            low, high = wilson(round(value * videos), videos)
            row |= {name: value, f"{name}_low": float(low), f"{name}_high": float(high)}
        rows.append(row)
    return rows


def test_positions() -> None:
    last = of("positions", positions([0.2, 0.2, 0.1, 0.5]))
    assert last.sentence.startswith(
        "Element 3 (the last of 4) is the most supporting one in 50 % of 1,000 videos (95 % int"
    )
    low, high = map(float, exact_ends(500, 1000, 8))  # the largest of two shares of four elements
    assert f"(95 % interval {100 * low:.1f} to {100 * high:.1f} %, corrected for 8 comparisons)" in last.sentence
    assert last.effect == pytest.approx((low - 0.25) / 0.75)
    rare = of("positions", positions([0.33, 0.0, 0.33, 0.34]))
    assert rare.sentence.startswith("Element 3 (the last of 4)")  # what is seldom is no finding
    eighth = of("positions", positions([0.3, *[0.1] * 7]))
    assert eighth.sentence.startswith("Element 0 (the first of 8) is")
    assert eighth.sentence.endswith("; by chance 12.5 %.")
    assert of("positions", positions([0.1, 0.1, 0.3, *[0.1] * 5])).sentence.startswith("Element 2 (the 3rd of 8) is")
    assert found("positions", positions([1.0])) is None  # the only element is always first


def test_pairs() -> None:
    """Pairs of all classes alone; a share below one half is told from the other side."""

    def pair(i: int, j: int, share: float, each: int | None = None) -> dict[str, Any]:
        return {"class": each, "n_elements": 3, "element_i": i, "element_j": j, "videos": 1000, "share": share,
                "low": share - 0.03, "high": share + 0.03}  # fmt: skip

    def both_orders(i: int, j: int, share: float, each: int | None = None) -> list[dict[str, Any]]:
        return [pair(i, j, share, each), pair(j, i, 1 - share, each)]

    both = [*both_orders(0, 1, 0.5), *both_orders(0, 2, 0.3), *both_orders(1, 2, 0.5)]
    rows = [*both, *both_orders(1, 2, 0.9, 2)]
    finding = of("pairs", rows)
    low, high = map(float, exact_ends(700, 1000, 4))  # three pairs over all classes, one of a class
    assert finding.sentence == (
        f"Element 2 (the last of 3) has a larger ESV than element 0 (the first of 3) in 70 % of 1,000 videos (95 % "
        f"interval {100 * low:.1f} to {100 * high:.1f} %, corrected for 4 comparisons); by chance 50 %."
    )
    assert finding.effect == pytest.approx(2 * (low - 0.5))
    equal = [pair(0, 1, 0.0), pair(1, 0, 0.01)]  # neither order: most ESVs are equal
    assert not of("pairs", equal).clear
    assert of("pairs", equal).sentence.endswith("by chance 50 %: no pair of elements is clear of chance.")


def test_needed() -> None:
    def needed(each: int | None, counts: list[int]) -> list[dict[str, Any]]:
        return [
            {"class": each, "n_elements": 4, "elements": k, "videos": videos, "share": videos / sum(counts)}
            for k, videos in enumerate(counts)
        ]

    parts = [*needed(0, [0, 400, 0, 0, 0]), *needed(1, [0, 300, 300, 0, 0])]
    finding = of("needed", [*needed(None, [0, 700, 300, 0, 0]), *parts])
    assert finding.sentence.startswith("1.3 of 4 elements are enough on average to reach 90 % of the score")
    assert finding.sentence.endswith(
        "If all contributed alike, 4 would be needed. "
        "“dog” needs most: 1.5 (95 % interval 1.45 to 1.55, corrected for 2 comparisons)."
    )
    unnamed = of("needed", [*needed(None, [0, 700, 300, 0, 0]), *parts], analyzed(names=False))
    assert ". Class 1 needs most: 1.5 " in unnamed.sentence
    even = [*needed(0, [0, 400, 100, 0, 0]), *needed(1, [0, 399, 101, 0, 0])]  # which needs most, is chance
    assert of("needed", [*needed(None, [0, 799, 201, 0, 0]), *even]).sentence.endswith("4 would be needed.")
    assert not of("needed", [*needed(None, [0, 0, 0, 0, 9]), *needed(0, [0, 0, 0, 0, 9])]).clear
    alone = of("needed", [*needed(None, [250, 750, 0, 0, 0]), *needed(0, [250, 750, 0, 0, 0])])
    assert alone.sentence.startswith("0.8 of 4 elements are enough")
    assert " In 25 % of the videos the class prior alone reaches it. If all contributed alike" in alone.sentence


def test_discards_and_areas() -> None:
    def row(order: str, discarded: int, score: float) -> dict[str, Any]:
        return {"n_elements": 5, "method": "esv", "order": order, "discarded": discarded, "videos": 9, "score": score,
                "low": score - 0.1, "high": score + 0.1}  # fmt: skip

    finding = of("discards", [row("descending", 2, 0.2), row("random", 2, 0.6)])
    assert finding.sentence.startswith("Without the 2 of 5 elements with the largest ESVs the mean score is 0.200")
    half = 0.1 * quantile(8, 1 - 0.05 / 2) / quantile(8, 0.95)  # both means have an interval
    assert finding.sentence.endswith(f"; without 2 at random it is 0.600 ({0.6 - half:.3f} to {0.6 + half:.3f}).")
    assert finding.effect == pytest.approx((0.4 - 2 * half) / (0.6 - half))
    assert not of("discards", [row("descending", 2, 0.45), row("random", 2, 0.6)]).clear  # the other mean varies, too
    assert found("discards", [row("descending", 2, 0.2)]) is None
    esv = {"n_elements": 5, "videos": 9, "method": "esv", "deletion_auc": 0.25}
    difference = {f"deletion_auc_minus_esv{end}": 0.35 + by for end, by in (("", 0), ("_low", -0.05), ("_high", 0.05))}
    rows = [esv | dict.fromkeys(difference), esv | {"method": "random", "deletion_auc": 0.6} | difference]
    area = of("areas", rows)
    assert area.sentence.endswith(
        "and 0.600 in the order of random values; difference +0.350 (95 % interval 0.300 to 0.400); by chance 0."
    )
    assert area.effect == pytest.approx(0.5)
    assert found("areas", rows[:1]) is None


def test_order() -> None:
    def row(difference: float, half: float = 0.05) -> list[dict[str, Any]]:
        return [{"class": None, "n_elements": 4, "videos": 9, "score": 0.5, "shuffled_score": 0.5 - difference,
                 "difference": difference, "low": difference - half, "high": difference + half}]  # fmt: skip

    finding = of("order", row(0.3))
    assert "lower the mean score from 0.500 to 0.200; difference -0.300 (95 % interval -0.350 to -0.250)" in (
        finding.sentence
    )
    assert finding.effect == pytest.approx(0.5)
    assert "raise the mean score" in of("order", row(-0.2)).sentence
    assert not of("order", row(0.02)).clear
    assert not of("order", [row(0.3)[0] | {"low": None, "high": None}]).clear  # one video


def test_confusions() -> None:
    """The share of a class's misclassified videos, compared with an even mix over the other classes."""

    def row(label: int, predicted: int, videos: int) -> dict[str, Any]:
        return {"label": label, "predicted": predicted, "n_elements": 4, "videos": videos}

    rows = [row(0, 1, 30), row(0, 2, 28), row(0, 3, 32), row(2, 3, 40)]
    finding = of("confusions", rows)
    assert finding.sentence.startswith("40 of the 40 misclassified videos of “cow” are taken for “hen” (95 % interval")
    low = float(exact_ends(40, 40, 6)[0])  # two classes, each taken for one of three others
    assert finding.effect == pytest.approx((low - 1 / 3) / (2 / 3))
    few = [row(index, 3, 3) for index in range(3)] + [row(index, (index + 1) % 3, 2) for index in range(3)]
    assert not of("confusions", few).clear  # 3 of 5 for one of three: not among nine
    assert found("confusions", [row(0, 1, 4)]) is None  # too few to say anything
    assert found("confusions", rows, analyzed(classes=2)) is None  # there is one other class


def test_classes() -> None:
    def row(each: int, correct: int, labelled: int) -> dict[str, Any]:
        low, high = map(float, wilson(correct, labelled)) if labelled else (None, None)
        return {"class": each, "name": None, "n_elements": 4, "videos": labelled, "labelled": labelled,
                "accuracy": correct / labelled if labelled else None,
                "accuracy_low": low, "accuracy_high": high}  # fmt: skip

    rows = [row(0, 60, 100), row(1, 10, 100), row(2, 0, 1)]
    finding = of("classes", rows)
    assert finding.sentence.startswith("“dog” is recognized in 10 % of its 100 videos (95 % interval 4.1 ")
    low, high = map(float, exact_ends(10, 100, 3))
    assert f"{100 * low:.1f} to {100 * high:.1f} %, corrected for 3 comparisons)" in finding.sentence
    many = [row(each, 50, 100) for each in range(3)] + [row(3, 39, 100)]
    assert not of("classes", many).clear  # alone it would differ from 47 %: not as the most extreme of four
    assert found("classes", rows[:1]) is None
    assert found("classes", rows, analyzed("predicted")) is None
    assert found("classes", [row(0, 0, 0), row(1, 0, 0)]) is None  # unlabelled


def test_profiles() -> None:
    def row(place: int, mean: float, half: float = 0.001) -> dict[str, Any]:
        return {"class": None, "n_elements": 4, "place": place, "count": 9, "videos": 9, "mean": mean,
                "low": mean - half, "high": mean + half}  # fmt: skip

    finding = of("profiles", [row(0, 0.01), row(2, -0.01), row(5, 0.02), row(7, 0.06)])
    assert finding.sentence.startswith("The part from 70 to 80 % of the sequence has 60 % of the absolute mean ESVs")
    factor = quantile(8, 1 - 0.05 / 4) / quantile(8, 0.95)  # four tenths, nine videos
    assert finding.effect == pytest.approx((0.6 - 0.01 * factor - 0.25) / 0.75)
    assert not of("profiles", [row(0, 0.01, 1.0), row(5, 0.02, 1.0)]).clear
    assert found("profiles", [row(0, 0.0), row(5, 0.0)]) is None
    assert found("profiles", [row(0, 0.1)]) is None


def test_interactions_and_marginals() -> None:
    def pair(mean: float, each: int | None = None) -> dict[str, Any]:
        return {"class": each, "n_elements": 3, "element_i": 0, "element_j": 1, "videos": 9, "mean": mean,
                "low": mean - 0.1, "high": mean + 0.1}  # fmt: skip

    finding = of("interactions", [pair(-0.5), pair(1.5, 2)])
    assert finding.sentence.startswith(
        "Element 0 (the first of 3) and element 1 (the 2nd of 3) say less together than apart: mean interaction -0.5000"
    )
    assert finding.effect == pytest.approx(0.2)
    assert found("interactions", [pair(-0.5)], analyzed(output="logit")) is None
    others = [pair(0.0) | {"element_j": 2 + place} for place in range(9)]
    factor = quantile(8, 1 - 0.05 / 10) / quantile(8, 0.95)
    assert of("interactions", [pair(-0.5), *others]).effect == pytest.approx((0.5 - 0.1 * factor) / 2)
    assert not of("interactions", [pair(-0.12), *others]).clear  # clear of 0 alone, not as the largest of ten

    def length(scale: int, mean: float, half: float | None = 0.01) -> dict[str, Any]:
        ends = {"low": None, "high": None} if half is None else {"low": mean - half, "high": mean + half}
        return {"n_elements": 2, "scale": scale, "count": 9, "videos": 9, "mean": mean, **ends}

    first = of("marginals", [length(1, 0.3), length(2, -0.1)])
    assert first.sentence.startswith("An element alone brings 75 % of what elements add over all 2 lengths")
    assert first.effect == pytest.approx((0.29 / 0.4 - 0.5) / 0.5)
    assert not of("marginals", [length(1, 0.3, 0.5), length(2, -0.1)]).clear
    assert found("marginals", [length(1, 0.3, None), length(2, 0.1)]) is None


def test_moments() -> None:
    row = {"n_elements": 4, "method": "esv", "videos": 9, "pointing": 0.8, "pointing_low": 0.7, "pointing_high": 0.9,
           "by_chance": 0.2}  # fmt: skip
    finding = of("moments", [row])
    low, high = map(float, exact_ends(7.2, 9, 1))
    assert finding.sentence.endswith(
        f"in 80 % of videos (95 % interval {100 * low:.1f} to {100 * high:.1f} %); by chance in 20 %."
    )
    assert finding.effect == pytest.approx((low - 0.2) / 0.8)
    assert found("moments", [row | {"method": "occlusion"}]) is None


def test_replacements() -> None:
    """The area by ESV beside that in random order, with the same thing in the elements' place."""

    def row(by: str, deletion: float, random: float | None, method: str = "esv") -> dict[str, Any]:
        ends = {"deletion_auc_low": deletion - 0.05, "deletion_auc_high": deletion + 0.05}
        if random is not None:
            ends |= {"random_auc_low": random - 0.01, "random_auc_high": random + 0.01}
        return {"n_elements": 6, "replaced_by": by, "method": method, "videos": 9, "deletion_auc": deletion,
                "random_auc": random, **ends}  # fmt: skip

    rows = [row("removal", 0.1, 0.9), row("neighbor", 0.5, 0.6), row("mean", 0.3, 0.6), row("mean", 0, None, "random")]
    finding = of("replacements", rows)
    assert finding.sentence.startswith(
        "With the mean element in the place of elements, the area under the score is 0.300 if those with the largest "
        "of 6 ESVs are replaced first (95 % interval 0.2"
    )
    factor = quantile(8, 1 - 0.05 / 4) / quantile(8, 0.95)  # of two kinds, both areas
    assert finding.sentence.endswith(
        f", corrected for 4 comparisons), and 0.600 in random order ({0.6 - 0.01 * factor:.3f} to "
        f"{0.6 + 0.01 * factor:.3f})."
    )
    assert finding.effect == pytest.approx((0.3 - 0.06 * factor) / (0.6 - 0.01 * factor))
    assert not of("replacements", [row("mean", 0.545, 0.6), row("neighbor", 0.6, 0.6)]).clear
    assert found("replacements", [row("removal", 0.1, 0.9)]) is None


def test_agreement() -> None:
    """The ESVs beside each other method but the random one."""

    def row(a: str, b: str, value: float | None, half: float = 0.1) -> dict[str, Any]:
        low, high = (None, None) if value is None else (value - half, value + half)
        ends = {"spearman_low": low, "spearman_high": high}
        return {"n_elements": 4, "method_a": a, "method_b": b, "videos": 99, "spearman": value, **ends}

    rows = [row("esv", "grad_cam", 0.8), row("esv", "occlusion", -0.5), row("grad_cam", "occlusion", 0.99)]
    finding = of("agreement", [*rows, row("esv", "random", 1.0), row("esv", "integrated_gradients", None)])
    assert finding.sentence.startswith(
        "ESV and Grad-CAM rank the elements of a video alike: mean rank correlation +0.80 (95 % interval 0.6"
    )
    assert finding.sentence.endswith(", corrected for 2 comparisons); by chance 0.")
    assert 0.6 < finding.effect < 0.7
    assert "occlusion rank the elements of a video in opposite orders" in of("agreement", rows[1:2]).sentence
    assert found("agreement", rows[2:]) is None
    assert not of("agreement", [row("esv", "occlusion", 0.05)]).clear


def test_the_largest_of_several_tables_holds_for_all_of_them() -> None:
    """Findings of any table: more tables compared, a wider interval, a smaller effect, and a sentence that says so."""
    ends = {"low": 0.30, "high": 0.40}
    rows: dict[str, list[dict[str, Any]]] = {
        "support": support({6: 20, 7: 20}, 8),
        "positions": positions([0.2, 0.2, 0.1, 0.5], 100),
        "confusions": [{"label": 0, "predicted": 1, "n_elements": 4, "videos": 30},
                       {"label": 0, "predicted": 2, "n_elements": 4, "videos": 10}],
        "classes": [{"class": each, "name": None, "n_elements": 4, "videos": 100, "labelled": 100, "accuracy": share}
                    for each, share in enumerate((0.9, 0.4))],
        "pairs": [{"class": None, "n_elements": 2, "element_i": i, "element_j": 1 - i, "videos": 100,
                   "share": (0.3, 0.7)[i], "low": 0.0, "high": 1.0} for i in range(2)],
        "profiles": [{"class": None, "n_elements": 2, "place": place, "count": 9, "videos": 9, "mean": mean,
                      "low": mean - 0.01, "high": mean + 0.01} for place, mean in ((0, 0.05), (5, 0.2))],
        "marginals": [{"n_elements": 2, "scale": scale, "count": 9, "videos": 9, "mean": mean, "low": mean - 0.01,
                       "high": mean + 0.01} for scale, mean in ((1, 0.3), (2, 0.1))],
        "interactions": [{"class": None, "n_elements": 2, "element_i": 0, "element_j": 1, "videos": 9, "mean": 0.35,
                          **ends}],
        "discards": [{"n_elements": 5, "method": "esv", "order": order, "discarded": 2, "videos": 9, "score": score,
                      "low": score - 0.05, "high": score + 0.05}
                     for order, score in (("descending", 0.35), ("random", 0.8))],
        "areas": [{"n_elements": 5, "method": method, "videos": 9, "deletion_auc": area, "deletion_auc_minus_esv": 0.45,
                   "deletion_auc_minus_esv_low": 0.4, "deletion_auc_minus_esv_high": 0.5}
                  for method, area in (("esv", 0.35), ("random", 0.8))],
        "replacements": [{"n_elements": 5, "method": "esv", "replaced_by": "mean", "videos": 9, "deletion_auc": 0.35,
                          "random_auc": 0.8, "deletion_auc_low": 0.3, "deletion_auc_high": 0.4, "random_auc_low": 0.75,
                          "random_auc_high": 0.85}],
        "agreement": [{"n_elements": 4, "method_a": "esv", "method_b": "occlusion", "videos": 9, "spearman": 0.35,
                       "spearman_low": 0.3, "spearman_high": 0.4}],
        "needed": [{"class": None, "n_elements": 4, "elements": k, "videos": videos, "share": videos / 40}
                   for k, videos in enumerate((0, 20, 20, 0, 0))],
        "order": [{"class": None, "n_elements": 4, "videos": 9, "score": 0.5, "shuffled_score": 0.15,
                   "difference": 0.35, **ends}],
        "moments": [{"n_elements": 4, "method": "esv", "videos": 40, "pointing": 0.8, "by_chance": 0.2}],
    }  # fmt: skip
    assert set(rows) == set(WITH)
    for name, of_table in rows.items():
        alone, among = found(name, of_table, tables=1), found(name, of_table, tables=12)
        assert alone is not None, name
        assert among is not None, name
        assert 0 < among.effect < alone.effect, name
        assert re.search(r"corrected for [0-9]+ comparisons", among.sentence), name
        assert found(name, of_table, tables=10**9).effect < among.effect, name  # type: ignore[union-attr]


def test_numbers_have_separators_of_thousands() -> None:
    rows = [
        {"class": each, "name": None, "n_elements": 4, "videos": 24_777, "labelled": 24_777, "accuracy": accuracy}
        for each, accuracy in enumerate((0.5, 0.6))
    ]
    assert "of its 24,777 videos" in of("classes", rows).sentence
