"""Tables of every facet, from made-up ESVs with some structure; and names of classes, long and hostile."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
import pyarrow as pa

FloatArray = npt.NDArray[np.float64]
_VERBS = (
    "Pushing", "Pulling", "Putting", "Taking", "Turning", "Throwing", "Pretending to put",
    "Pretending or failing to wipe",
    "Showing that", "Moving", "Lifting", "Letting", "Dropping", "Covering", "Trying but failing to attach",
)  # fmt: skip
_ENDS = (
    "something from left to right", "something behind something", "something so that it falls off the table",
    "something, something and something on the table", "two ends of something so that it gets stretched", "something",
    "something until it stops by itself", "the camera right while filming something", "something onto something",
    "something without letting it drop", "a number of something into something", "something upright on the table",
)  # fmt: skip
LONGEST = "Putting something on the edge of something so it is not supported and falls down"
HOSTILE = [
    "<script>alert('x')</script><img src=x onerror=alert(1)>",
    "datum.x + datum['y'] && isValid(datum.share)",
    '"quoted" \'quoted\' \\back\\slash\\ {"expr": "1+1"}',
    "שלום עולם עם מספר 123 בסוף",
    "long " * 60,
    "👩‍👩‍👧 family and 🎉 emoji 中文类别名称",
    "\x1b[31mred\x1b[0m\x07\r\nnewline\ttab",
    "\u202egnp.exe ]]> --> &amp; <!-- ]]>",
    "",
    '${7*7} {{7*7}} url(#clip0) id="x" signal',
]


def something_like(count: int = 174) -> list[str]:
    """Names as those of Something-Something: long, and alike."""
    names = [LONGEST, *(f"{verb} {end}" for verb in _VERBS for end in _ENDS)]
    return names[:count]


@dataclass(frozen=True)
class MadeUp:
    """Attributed videos of one length.

    Attributes:
        esv: (B, n) of the label.
        other: (B, n) of the predicted class.
        label, predicted: (B,).
        prior: (C,).
        rng: for what tables have besides.
    """

    esv: FloatArray
    other: FloatArray
    label: npt.NDArray[np.int64]
    predicted: npt.NDArray[np.int64]
    prior: FloatArray
    rng: np.random.Generator = field(repr=False)

    @property
    def n(self) -> int:
        return int(self.esv.shape[1])

    @property
    def score(self) -> FloatArray:
        return np.asarray(self.prior[self.label] + self.esv.sum(1))


def made_up(videos: int = 600, n: int = 16, classes: int = 174, seed: int = 0) -> MadeUp:
    """Videos whose later elements support most, differently per class; a third are misclassified."""
    rng = np.random.default_rng(seed)
    prior = rng.dirichlet(np.full(classes, 2.0))
    label = rng.choice(classes, videos, p=prior)
    wrong = rng.random(videos) < 0.35
    predicted = np.where(wrong, (label + rng.integers(1, 4, videos)) % classes, label)
    place = np.arange(n) / max(1, n - 1)
    peak = rng.random(classes)[label]
    shape = np.exp(-(((place[None] - peak[:, None]) / 0.3) ** 2)) + 0.4 * place[None]
    esv = np.where(wrong, 0.15, 1.0)[:, None] * shape * rng.gamma(4.0, 0.25, (videos, 1)) + 0.35 * rng.normal(
        size=(videos, n)
    )
    esv *= 0.5 / n
    other = np.where(wrong[:, None], 0.9 * shape[:, ::-1] * 0.6 / n + 0.02 * rng.normal(size=(videos, n)), esv)
    return MadeUp(esv, other, label, predicted, prior, rng)


def table(rows: Sequence[dict[str, Any]], **types: pa.DataType) -> pa.Table:
    """A table of rows; `types` are those of columns that may have no values."""
    made = pa.Table.from_pylist(list(rows))
    assert made.num_rows
    for name, kind in types.items():
        made = made.set_column(made.column_names.index(name), name, made.column(name).cast(kind))
    return made


def _wilson(share: float, count: int) -> tuple[float, float]:
    z = 1.959964
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * np.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return float(middle - half), float(middle + half)


def _interval(values: FloatArray) -> tuple[float, float, float]:
    mean = float(values.mean())
    half = 1.96 * float(values.std()) / np.sqrt(len(values))
    return mean, mean - half, mean + half


def _groups(of: MadeUp) -> list[tuple[int | None, npt.NDArray[np.bool_]]]:
    return [(None, np.ones(len(of.label), bool)), *((int(each), of.label == each) for each in np.unique(of.label))]


def support(of: MadeUp) -> pa.Table:
    counts = (of.esv > 0).sum(1)
    correct = of.label == of.predicted
    return table(
        [
            {
                "n_elements": of.n,
                "correct": group,
                "supporting": k,
                "videos": int(((counts == k) & (correct == group)).sum()),
            }
            for group in (True, False)
            for k in range(of.n + 1)
        ]
    )


def positions(of: MadeUp) -> pa.Table:
    best, worst = of.esv.argmax(1), of.esv.argmin(1)
    return table(
        [
            {
                "n_elements": of.n,
                "element": i,
                "videos": len(best),
                "most_supporting": float((best == i).mean()),
                "most_distracting": float((worst == i).mean()),
                "most_supporting_videos": int((best == i).sum()),
                "most_distracting_videos": int((worst == i).sum()),
                "videos_tied": 0,
            }
            for i in range(of.n)
        ]
    )


def pairs(of: MadeUp) -> pa.Table:
    rows = []
    for each, inside in _groups(of):
        esv = of.esv[inside]
        shares = (esv[:, :, None] > esv[:, None, :]).mean(0)
        for i in range(of.n):
            for j in range(of.n):
                if i != j:
                    low, high = _wilson(shares[i, j], len(esv))
                    rows.append(
                        {"class": each, "n_elements": of.n, "element_i": i, "element_j": j, "videos": len(esv),
                         "share": float(shares[i, j]), "low": low, "high": high}
                    )  # fmt: skip
    return table(rows)


def _percentiles(values: FloatArray) -> dict[str, Any]:
    return {"count": len(values), "mean": float(values.mean())} | {
        f"p{q}": float(np.percentile(values, q)) for q in (5, 25, 50, 75, 95)
    }


def marginals(of: MadeUp) -> pa.Table:
    return table(
        [
            {"n_elements": of.n, "scale": s + 1}
            | _percentiles((of.esv * 2.5 * 0.8**s + 0.02 * of.rng.normal(size=of.esv.shape)).ravel())
            for s in range(of.n)
        ]
    )


def smoothness(of: MadeUp) -> pa.Table:
    return table(
        [
            {"n_elements": of.n, "offset": offset}
            | _percentiles(0.01 * (1 + abs(offset)) * of.rng.normal(size=of.esv.size))
            for offset in (-3, -2, -1, 1, 2, 3)
        ]
    )


def contrasts(of: MadeUp, stderr: bool = False) -> pa.Table:
    rows = [
        {
            "video_id": f"video-{video:06d}",
            "n_elements": of.n,
            "label": int(of.label[video]),
            "predicted": int(of.predicted[video]),
            "element": i,
            "frame_index": 7 * i + 3,
            "esv_label": float(of.esv[video, i]),
            "esv_predicted": float(of.other[video, i]),
            "difference": float(of.esv[video, i] - of.other[video, i]),
            "stderr": 0.004 + 0.001 * i if stderr else None,
        }
        for video in np.flatnonzero(of.label != of.predicted).tolist()
        for i in range(of.n)
    ]
    return table(rows, stderr=pa.float32())


def classes(of: MadeUp, names: Sequence[str] | None) -> pa.Table:
    rows = []
    for each, inside in _groups(of)[1:]:
        assert each is not None
        esv = of.esv[inside]
        support, distract = np.maximum(esv, 0).sum(1).mean(), np.minimum(esv, 0).sum(1).mean()
        rows.append(
            {"class": each, "name": names[each] if names else None, "n_elements": of.n, "videos": int(inside.sum()),
             "accuracy": float((of.predicted[inside] == each).mean()), "prior": float(of.prior[each]),
             "score": float(of.prior[each] + support + distract), "support": float(support),
             "distract": float(distract), "supporting_share": float((esv > 0).mean()), "entropy": 2.1,
             "elements_to_90": 4.2}
        )  # fmt: skip
    return table(rows, name=pa.string())


def profiles(of: MadeUp) -> pa.Table:
    tenth = np.minimum(9, 10 * np.arange(of.n) // of.n)
    rows = []
    for each, inside in _groups(of):
        for place in np.unique(tenth).tolist():
            values = of.esv[inside][:, tenth == place].mean(1)
            mean, low, high = _interval(values)
            rows.append(
                {
                    "class": each,
                    "n_elements": of.n,
                    "place": place,
                    "count": len(values),
                    "mean": mean,
                    "low": low,
                    "high": high,
                    "videos": len(values),
                }
            )
    return table(rows)


def confusions(of: MadeUp) -> pa.Table:
    wrong = of.label != of.predicted
    found = {(int(a), int(b)) for a, b in zip(of.label[wrong], of.predicted[wrong], strict=True)}
    rows = []
    for a, b in sorted(found):
        inside = (of.label == a) & (of.predicted == b)
        lowest = (of.esv[inside] - of.other[inside]).min(1)
        rows.append(
            {"label": a, "predicted": b, "n_elements": of.n, "videos": int(inside.sum()),
             "mean_difference_at_most_misleading_element": float(lowest.mean())}
        )  # fmt: skip
    return table(rows)


def interactions(of: MadeUp) -> pa.Table:
    rows = []
    for each, inside in _groups(of):
        scale = of.rng.normal()
        for i in range(of.n):
            for j in range(i + 1, of.n):
                mean = 0.02 * scale * np.exp(-(j - i) / 3) + 0.003 * of.rng.normal() - 0.01 * (j - i == 1)
                rows.append(
                    {
                        "class": each,
                        "n_elements": of.n,
                        "element_i": i,
                        "element_j": j,
                        "videos": int(inside.sum()),
                        "mean": float(mean),
                    }
                )
    return table(rows)


def discards(
    of: MadeUp, methods: Sequence[str] = ("esv", "integrated_gradients", "grad_cam", "occlusion", "random")
) -> pa.Table:
    speeds = {"descending": 2.5, "ascending": -1.5, "center": 0.8, "edges": 0.5, "uniform": 0.2, "random": 0.3}
    prior = float(of.prior[of.label].mean())
    rows = []
    for at, method in enumerate(methods):
        for order, speed in speeds.items():
            if at and order not in ("descending", "ascending"):
                continue
            power = 2.0 ** (-speed * (1 - 0.22 * at))
            for k in range(of.n + 1):
                score = prior + (0.62 - prior) * (1 - (k / of.n) ** power)
                rows.append(
                    {"n_elements": of.n, "method": method, "order": order, "discarded": k, "videos": len(of.label),
                     "accuracy": min(1.0, score * 1.1), "score": score, "low": score - 0.015, "high": score + 0.015}
                )  # fmt: skip
    return table(rows)


def areas(of: MadeUp, intervals: bool = True) -> pa.Table:
    measures = ("deletion_auc", "insertion_auc", "comprehensiveness", "sufficiency", "average_drop", "monotonicity")
    rows = []
    for at, method in enumerate(("esv", "integrated_gradients", "grad_cam", "occlusion", "random")):
        row: dict[str, Any] = {"n_elements": of.n, "method": method, "videos": len(of.label)}
        for place, name in enumerate(measures):
            value = 0.2 + 0.05 * at if place in (0, 3, 4) else 0.7 - 0.12 * at
            row |= {name: value - 0.3 * (place == 5)}
            if intervals:
                row |= {f"{name}_low": row[name] - 0.02, f"{name}_high": row[name] + 0.02}
        rows.append(row)
    return table(rows)


def replacements(of: MadeUp) -> pa.Table:
    rows = []
    for place, by in enumerate(("removal", "neighbor", "mean")):
        for at, method in enumerate(("esv", "integrated_gradients", "grad_cam", "occlusion", "random")):
            row: dict[str, Any] = {"n_elements": of.n, "replaced_by": by, "method": method, "videos": len(of.label)}
            areas_of = {"deletion_auc": 0.2 + 0.04 * at + 0.03 * place, "insertion_auc": 0.6 - 0.05 * at - 0.04 * place}
            row |= areas_of | {"random_auc": None if at else 0.42 - 0.05 * place}
            for name, value in areas_of.items():
                row |= {f"{name}_low": value - 0.02, f"{name}_high": value + 0.02}
            rows.append(row)
    return table(rows)


def moments(of: MadeUp) -> pa.Table:
    rows = []
    for at, method in enumerate(("esv", "integrated_gradients", "grad_cam", "occlusion", "random")):
        row: dict[str, Any] = {"n_elements": of.n, "method": method, "videos": len(of.label), "by_chance": 0.25}
        for place, name in enumerate(("pointing", "auc", "iou")):
            row |= {name: 0.9 - 0.1 * at - 0.05 * place}
            row |= {f"{name}_low": row[name] - 0.04, f"{name}_high": row[name] + 0.04}
        rows.append(row)
    return table(rows)


def needed(of: MadeUp) -> pa.Table:
    ordered = np.sort(of.esv, axis=1)[:, ::-1]
    reach = np.maximum.accumulate(of.prior[of.label][:, None] + ordered.cumsum(1), axis=1)
    enough = (reach >= 0.9 * of.score[:, None]).argmax(1) + 1
    return table(
        [
            {"class": each, "n_elements": of.n, "elements": k, "videos": int((enough[inside] == k).sum())}
            for each, inside in _groups(of)
            for k in range(1, of.n + 1)
        ]
    )


def order(of: MadeUp) -> pa.Table:
    lost = of.esv.sum(1) * of.rng.random(of.prior.shape)[of.label] * 0.5 + 0.03 * of.rng.normal(size=len(of.label))
    rows = []
    for each, inside in _groups(of):
        mean, low, high = _interval(lost[inside])
        score = float(of.score[inside].mean())
        rows.append(
            {"class": each, "n_elements": of.n, "videos": int(inside.sum()), "score": score,
             "shuffled_score": score - mean, "low": low, "high": high}
        )  # fmt: skip
    return table(rows)


def sanity(of: MadeUp) -> pa.Table:
    values = (1.0, 0.41, 0.12, -0.03)
    return table(
        [
            {"n_elements": of.n, "layers_randomised": k, "videos": len(of.label), "spearman": value}
            for k, value in enumerate(values)
        ]
    )


def agreement(of: MadeUp) -> pa.Table:
    methods = ("esv", "integrated_gradients", "grad_cam", "occlusion", "random")
    return table(
        [
            {"n_elements": of.n, "method_a": a, "method_b": b, "videos": len(of.label),
             "pearson": (0.8 - 0.15 * (j - i)) * (b != "random"), "spearman": (0.7 - 0.15 * (j - i)) * (b != "random")}
            for i, a in enumerate(methods)
            for j, b in enumerate(methods)
            if i < j
        ]
    )  # fmt: skip


def compare(of: MadeUp) -> pa.Table:
    row: dict[str, Any] = {"n_elements": of.n, "videos": len(of.label), "compared": len(of.label) - 3}
    row |= {"labelled": len(of.label)}
    for name, value in (("accuracy_a", 0.61), ("accuracy_b", 0.66), ("accuracy_difference", 0.05)):
        row |= {name: value, f"{name}_low": value - 0.04, f"{name}_high": value + 0.04}
    for name, value in (("pearson", 0.82), ("spearman", 0.77), ("cosine", 0.9)):
        row |= {name: value, f"{name}_low": value - 0.03, f"{name}_high": value + 0.02}
    return table([row])


def correlations(of: MadeUp) -> pa.Table:
    ends = np.arange(-10, 11) / 10
    values = np.clip(1 - np.abs(of.rng.normal(0, 0.4, len(of.label))), -1, 1)
    counts = np.histogram(values, ends)[0].tolist()
    return table(
        [
            {"n_elements": of.n, "lower": lower, "upper": upper, "videos": videos}
            for lower, upper, videos in zip(ends[:-1].tolist(), ends[1:].tolist(), counts, strict=True)
        ]
    )


def convergence(of: MadeUp) -> pa.Table:
    return table(
        [
            {"estimator": kind, "m": m, "iterations": iterations, "n": of.n, "videos": 32,
             "relative_error": (0.6 if kind == "algorithm1" else 0.1) / np.sqrt(m * iterations / 16), "lad_slope": 0.9,
             "pearson": 0.99, "cost": 0.1, "evaluations": float(m * iterations * 8), "video_ms": 1.5, "exact_ms": 9.0,
             "coverage": float("nan") if kind == "algorithm1" and iterations == 1 else 0.94,
             "standard_error": float("nan") if kind == "algorithm1" and iterations == 1 else 0.09 / np.sqrt(m / 16)}
            for kind in ("algorithm1", "adjusted")
            for m in (64, 256, 1024)
            for iterations in (1, 4)
        ]
    )  # fmt: skip


def tables(of: MadeUp, names: Sequence[str] | None = None) -> dict[str, pa.Table]:
    """The tables of all facets."""
    return tables_of(of, MAKERS) | {"classes": classes(of, names)}


def tables_of(of: MadeUp, facets: Iterable[str]) -> dict[str, pa.Table]:
    """The tables of some facets, without names of classes."""
    return {facet: classes(of, None) if facet == "classes" else MAKERS[facet](of) for facet in facets}


MAKERS: dict[str, Callable[[MadeUp], pa.Table]] = {
    maker.__name__: maker
    for maker in (
        support, positions, pairs, marginals, smoothness, contrasts, profiles, confusions, interactions, discards,
        areas, replacements, needed, moments, order, sanity, agreement, convergence, compare, correlations,
    )
}  # fmt: skip


def marks(svg: str, kind: str) -> int:
    """The number of marks of a kind (`rect`, `symbol`, `rule`, `text`, ...) in a figure, without axes and legends."""
    groups = re.findall(rf'<g (?:[^<>]* )?class="mark-{kind} role-mark[^"]*"[^>/]*>(.*?)</g>', svg, re.S)
    return sum(len(re.findall(r"<(?:path|line|text)\b", group)) for group in groups)


def texts(svg: str) -> str:
    """All texts of a figure, one line each."""
    root = ElementTree.fromstring(svg)
    return "\n".join("".join(piece.itertext()) for piece in root.iter() if piece.tag.endswith(("}tspan", "}text")))
