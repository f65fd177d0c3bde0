"""The tables of `esv analyze` by brute force: loops over the rows of an output, sharing no code with the facets."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

Row = dict[str, Any]


@dataclass
class Attributed:
    """A sequence and its ESVs of the explained class."""

    row: Row
    class_id: int
    prior: float
    score: float
    esv: list[float]
    stderr: list[float | None]

    @property
    def n(self) -> int:
        return len(self.esv)


@dataclass
class Output:
    """The rows of an output."""

    videos: list[Row]
    esvs: dict[tuple[str, int, int], list[Row]]
    prior: list[float]
    names: list[str] | None
    in_logits: bool
    further: dict[str, list[Row]]

    def of(self, row: Row, class_id: int | None) -> list[Row] | None:
        """The rows of a video's class by element, or None."""
        if class_id is None:
            return None
        found = self.esvs.get((row["video_id"], row["n_elements"], class_id))
        return None if found is None else sorted(found, key=lambda each: each["element"])

    def sequences(self, explained: str) -> list[Attributed]:
        found = []
        for row in self.videos:
            rows = self.of(row, row[explained])
            if rows is None:
                continue
            esv = [each["esv"] for each in rows]
            prior = self.prior[row[explained]]
            empty = math.log(prior) if self.in_logits else prior
            score = empty + sum(esv) if self.in_logits else row["scores"][row[explained]]
            found.append(Attributed(row, row[explained], empty, score, esv, [each["stderr"] for each in rows]))
        return found


def read(out: Path) -> Output:
    model = json.loads((out / "run.json").read_text())
    esvs = defaultdict(list)
    for row in pq.read_table(out / "attributions").to_pylist():
        if row.get("method", "esv") == "esv":
            esvs[row["video_id"], row["n_elements"], row["class"]].append(row)
    videos = [row for row in pq.read_table(out / "videos").to_pylist() if row["status"] == "ok"]
    names = [name for name in ("marginals", "interactions", "discards", "replacements") if (out / name).exists()]
    further = {name: pq.read_table(out / name).to_pylist() for name in names}
    in_logits = model["spec"]["estimator"]["output"] == "logit"
    return Output(videos, dict(esvs), model["model"]["prior"], model["model"]["classes"], in_logits, further)


def grouped(items: Iterable[Any], key: Callable[[Any], Any]) -> dict[Any, list[Any]]:
    groups: dict[Any, list[Any]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def mean(values: Iterable[float]) -> float | None:
    listed = list(values)
    return float(np.mean(listed)) if listed else None


def support_of(s: Attributed) -> float:
    return sum(x for x in s.esv if x > 0)


def distract_of(s: Attributed) -> float:
    return sum(x for x in s.esv if x <= 0)


def entropy_of(s: Attributed) -> float | None:
    total = sum(map(abs, s.esv))
    if not total:
        return None
    return -sum(abs(x) / total * math.log2(abs(x) / total) for x in s.esv if x)


def to_90(s: Attributed) -> int | None:
    due, done = 0.9 * support_of(s), 0.0
    for count, x in enumerate(sorted((x for x in s.esv if x > 0), reverse=True), start=1):
        done += x
        if done >= due:
            return count
    return None  # nothing supports the class


def error_of(parts: Sequence[list[float | None]], count: int) -> float | None:
    squares = [error**2 for part in parts for error in part if error is not None]
    return math.sqrt(sum(squares)) / count if squares and sum(squares) > 0 else None


def errors_where(s: Attributed, keep: Callable[[float], bool]) -> list[float | None]:
    return [error for error, x in zip(s.stderr, s.esv, strict=True) if keep(x)]


def right(row: Row) -> bool | None:
    return None if row["label"] is None else row["label"] == row["predicted"]


def accuracy(rows: Sequence[Row]) -> float | None:
    return mean(right(row) for row in rows if right(row) is not None)  # type: ignore[misc]


def summary(out: Output, explained: str) -> list[Row]:
    rows = []
    groups = grouped(out.sequences(explained), lambda s: s.n)
    for n, videos in sorted(grouped(out.videos, lambda row: row["n_elements"]).items()):
        of_length = groups.get(n, [])
        errors = [error for s in of_length for error in s.stderr if error is not None]
        gaps = [row["efficiency_gap"] for row in videos if not row["exact"]]
        rows.append(
            {
                "n_elements": n,
                "videos": len(videos),
                "accuracy": accuracy(videos),
                "mean_score": mean(s.score for s in of_length),
                "mean_prior": mean(s.prior for s in of_length),
                "support": mean(map(support_of, of_length)),
                "distract": mean(map(distract_of, of_length)),
                "supporting_share": mean(x > 0 for s in of_length for x in s.esv),
                "exact_share": mean(row["exact"] for row in videos),
                "median_stderr": lower_median(errors),
                "labelled": sum(row["label"] is not None for row in videos),
                "explained": len(of_length),
                "support_stderr": error_of([errors_where(s, lambda x: x > 0) for s in of_length], len(of_length)),
                "distract_stderr": error_of([errors_where(s, lambda x: x <= 0) for s in of_length], len(of_length)),
                "largest_exact_gap": max((r["efficiency_gap"] for r in videos if r["exact"]), default=None),
                "median_sampled_gap": lower_median(gaps),
            }
        )
    return rows


def lower_median(values: Sequence[float]) -> float | None:
    return sorted(values)[(len(values) - 1) // 2] if values else None


def support(out: Output, explained: str) -> list[Row]:
    rows = []
    for (n, correct), group in grouped(out.sequences(explained), lambda s: (s.n, right(s.row))).items():
        counts = [sum(x > 0 for x in s.esv) for s in group]
        rows += [
            {
                "n_elements": n,
                "correct": correct,
                "supporting": k,
                "videos": counts.count(k),
                "share": counts.count(k) / len(group),
            }
            for k in range(n + 1)
        ]
    return rows


def positions(out: Output, explained: str) -> list[Row]:
    rows = []
    for n, group in grouped(out.sequences(explained), lambda s: s.n).items():
        rows += [
            {
                "n_elements": n,
                "element": e,
                "videos": len(group),
                "most_supporting": mean((s.esv[e] == max(s.esv)) / s.esv.count(max(s.esv)) for s in group),
                "most_distracting": mean((s.esv[e] == min(s.esv)) / s.esv.count(min(s.esv)) for s in group),
                "most_supporting_videos": sum(s.esv[e] == max(s.esv) for s in group),
                "most_distracting_videos": sum(s.esv[e] == min(s.esv) for s in group),
                "videos_tied": sum(max(map(s.esv.count, (max(s.esv), min(s.esv)))) > 1 for s in group),
            }
            for e in range(n)
        ]
    return rows


def pairs(out: Output, explained: str) -> list[Row]:
    rows = []
    for (class_id, n), group in with_all(out.sequences(explained)).items():
        rows += [
            {
                "class": class_id,
                "n_elements": n,
                "element_i": i,
                "element_j": j,
                "videos": len(group),
                "share": mean(s.esv[i] > s.esv[j] for s in group),
            }
            for i in range(n)
            for j in range(n)
            if i != j
        ]
    return rows


def with_all(sequences: Sequence[Attributed]) -> dict[tuple[int | None, int], list[Attributed]]:
    """Groups by class and length, and by length alone."""
    by_class = grouped(sequences, lambda s: (s.class_id, s.n))
    return {**by_class, **grouped(sequences, lambda s: (None, s.n))}


def contrasts(out: Output, explained: str) -> list[Row]:
    rows = []
    for row in out.videos:
        own, other = out.of(row, row["label"]), out.of(row, row["predicted"])
        if right(row) is not False or own is None or other is None:
            continue
        errors = row["stderr_difference"] or [None] * len(own)
        rows += [
            {
                "video_id": row["video_id"],
                "n_elements": row["n_elements"],
                "label": row["label"],
                "predicted": row["predicted"],
                "element": a["element"],
                "frame_index": a["frame_index"],
                "esv_label": a["esv"],
                "esv_predicted": b["esv"],
                "difference": a["esv"] - b["esv"],
                "stderr": error,
            }
            for a, b, error in zip(own, other, errors, strict=True)
        ]
    return rows


def classes(out: Output, explained: str) -> list[Row]:
    rows = []
    kept = grouped(out.sequences(explained), lambda s: (s.class_id, s.n))
    there = [row for row in out.videos if row[explained] is not None]
    for (class_id, n), videos in grouped(there, lambda row: (row[explained], row["n_elements"])).items():
        group = kept.get((class_id, n), [])
        entropies = [x for x in map(entropy_of, group) if x is not None]
        fewest = [x for x in map(to_90, group) if x is not None]
        rows.append(
            {
                "class": class_id,
                "name": out.names[class_id] if out.names else None,
                "n_elements": n,
                "videos": len(group),
                "accuracy": accuracy(videos),
                "prior": math.log(out.prior[class_id]) if out.in_logits else out.prior[class_id],
                "score": mean(s.score for s in group),
                "support": mean(map(support_of, group)),
                "distract": mean(map(distract_of, group)),
                "supporting_share": mean(x > 0 for s in group for x in s.esv),
                "entropy": mean(entropies),
                "elements_to_90": mean(fewest),
                "labelled": sum(row["label"] is not None for row in videos),
                "entropy_videos": len(entropies),
                "elements_to_90_videos": len(fewest),
            }
        )
    return rows


def profiles(out: Output, explained: str) -> list[Row]:
    rows = []
    for (class_id, n), group in with_all(out.sequences(explained)).items():
        for place in range(10):
            inside = [e for e in range(n) if math.floor(10 * e / n) == place]
            if inside:
                errors = error_of([[s.stderr[e] for e in inside] for s in group], len(group) * len(inside))
                rows.append(
                    {
                        "class": class_id,
                        "n_elements": n,
                        "place": place,
                        "count": len(inside) * len(group),
                        "mean": mean(s.esv[e] for s in group for e in inside),
                        "videos": len(group),
                        "stderr": errors,
                    }
                )
    return rows


def confusions(out: Output, explained: str) -> list[Row]:
    worst: dict[tuple[str, int], float] = {}
    for row in contrasts(out, explained):
        key = row["video_id"], row["n_elements"]
        worst[key] = min(worst.get(key, math.inf), row["difference"])
    wrong = [row for row in out.videos if right(row) is False]
    return [
        {
            "label": label,
            "predicted": predicted,
            "n_elements": n,
            "videos": len(group),
            "mean_difference_at_most_misleading_element": mean(
                worst[row["video_id"], n] for row in group if (row["video_id"], n) in worst
            ),
        }
        for (label, predicted, n), group in grouped(
            wrong, lambda row: (row["label"], row["predicted"], row["n_elements"])
        ).items()
    ]


def of_explained(out: Output, explained: str, table: str) -> dict[tuple[str, int], list[Row]]:
    """The rows of a further table for the explained class, by video and length."""
    wanted = {(row["video_id"], row["n_elements"], row[explained]) for row in out.videos}
    rows = [row for row in out.further[table] if (row["video_id"], row["n_elements"], row["class"]) in wanted]
    return grouped(rows, lambda row: (row["video_id"], row["n_elements"]))


def marginals(out: Output, explained: str) -> list[Row]:
    rows = [row for group in of_explained(out, explained, "marginals").values() for row in group]
    found = []
    for (n, scale), group in grouped(rows, lambda row: (row["n_elements"], row["scale"])).items():
        values = sorted(row["marginal"] for row in group if row["marginal"] is not None)
        percentiles = {f"p{p}": values[math.ceil(p / 100 * len(values)) - 1] for p in (5, 25, 50, 75, 95)}
        found.append({"n_elements": n, "scale": scale, "count": len(values), "mean": mean(values), **percentiles})
    return found


def interactions(out: Output, explained: str) -> list[Row]:
    rows = [row for group in of_explained(out, explained, "interactions").values() for row in group]
    rows += [{**row, "class": None} for row in rows]
    return [
        {
            "class": class_id,
            "n_elements": n,
            "element_i": i,
            "element_j": j,
            "videos": len(group),
            "mean": mean(row["interaction"] for row in group),
        }
        for (class_id, n, i, j), group in grouped(
            rows, lambda row: (row["class"], row["n_elements"], row["element_i"], row["element_j"])
        ).items()
    ]


def discards(out: Output, explained: str) -> list[Row]:
    return [
        {
            "n_elements": n,
            "method": method,
            "order": order,
            "discarded": discarded,
            "videos": len(group),
            "accuracy": mean(row["predicted"] == row["class"] for row in group),
            "score": mean(row["score"] for row in group),
        }
        for (n, method, order, discarded), group in grouped(
            out.further["discards"], lambda row: (row["n_elements"], row["method"], row["order"], row["discarded"])
        ).items()
    ]


def faithfulness(removed: list[float], kept: list[float]) -> list[float]:
    """The measures of one video: scores without the k most influential elements, and with these alone, k = 0..n."""
    n = len(removed) - 1
    ks = [math.ceil(Fraction(share, 100) * n) for share in (1, 5, 10, 20, 50)]
    half = math.ceil(Fraction(n, 2))
    return [
        float(np.trapezoid(removed, dx=1 / n)),
        float(np.trapezoid(kept, dx=1 / n)),
        float(np.mean([removed[0] - removed[k] for k in ks])),
        float(np.mean([removed[0] - kept[k] for k in ks])),
        max(0.0, removed[0] - kept[half]) / removed[0],
        float(np.mean([after <= before for before, after in pairwise(removed)])),
    ]


def areas(out: Output, explained: str) -> list[Row]:
    scores = {
        (row["video_id"], row["n_elements"], row["method"], row["order"], row["discarded"]): row["score"]
        for row in out.further["discards"]
    }
    found: dict[tuple[int, str], list[tuple[str, list[float]]]] = {}
    for video_id, n, method in dict.fromkeys((v, n, m) for v, n, m, order, _ in scores if order == "descending"):
        removed = [scores[video_id, n, method, "descending", k] for k in range(n + 1)]
        kept = [scores[video_id, n, method, "ascending", n - k] for k in range(n + 1)]
        found.setdefault((n, method), []).append((video_id, faithfulness(removed, kept)))
    rows = []
    for (n, method), measured in found.items():
        of_esv = dict(found[n, "esv"])
        row: Row = {"n_elements": n, "method": method, "videos": len(measured)}
        for place, name in enumerate(AREAS):
            row[name] = mean(values[place] for _, values in measured)
            differences = [values[place] - of_esv[video_id][place] for video_id, values in measured]
            row[f"{name}_minus_esv"] = None if method == "esv" else mean(differences)
        rows.append(row)
    return rows


def replacements(out: Output, explained: str) -> list[Row]:
    """Areas up to the last element that is left, whose videos are those of both tables."""
    curves: dict[tuple[int, str, str], dict[str, dict[str, dict[int, float]]]] = {}
    for each in [*out.further["replacements"], *out.further.get("discards", [])]:
        key = each["n_elements"], each.get("replaced_by", "removal"), each["method"]
        of_video = curves.setdefault(key, {}).setdefault(each["video_id"], {})
        of_video.setdefault(each["order"], {})[each["discarded"]] = each["score"]

    def area(key: tuple[int, str, str], video_id: str, order: str) -> float:
        n, curve = key[0], curves[key][video_id][order]
        return sum((curve[k] + curve[k + 1]) / 2 for k in range(n - 1)) / (n - 1)

    rows = []
    for key, of_videos in curves.items():
        n, by, method = key
        if n == 1:
            continue
        row: Row = {"n_elements": n, "replaced_by": by, "method": method, "videos": len(of_videos)}
        orders = {"deletion_auc": "descending", "insertion_auc": "ascending", "random_auc": "random"}
        for name, order in orders.items():
            known = order != "random" or method == "esv"
            row[name] = mean(area(key, video_id, order) for video_id in of_videos) if known else None
            left_out = (n, "removal", method)
            compared = known and by != "removal" and left_out in curves
            row[f"{name}_minus_removal"] = (
                mean(area(key, video_id, order) - area(left_out, video_id, order) for video_id in of_videos)
                if compared
                else None
            )
        rows.append(row)
    return rows


def needed(out: Output, explained: str) -> list[Row]:
    curves: dict[tuple[str, int], dict[int, Row]] = {}
    for row in out.further["discards"]:
        if (row["method"], row["order"]) == ("esv", "descending"):
            curves.setdefault((row["video_id"], row["n_elements"]), {})[row["n_elements"] - row["discarded"]] = row
    found: list[tuple[int | None, int, int]] = []
    for (_, n), of_video in curves.items():
        due = 0.9 * of_video[n]["score"]
        fewest = min(k for k in range(n + 1) if (of_video[k]["best"] if k else of_video[0]["score"]) >= due)
        found += [(of_video[n]["class"], n, fewest), (None, n, fewest)]
    return [
        {
            "class": class_id,
            "n_elements": n,
            "elements": k,
            "videos": sum(each[2] == k for each in group),
            "share": sum(each[2] == k for each in group) / len(group),
        }
        for (class_id, n), group in grouped(found, lambda each: each[:2]).items()
        for k in range(n + 1)
    ]


AREAS = ("deletion_auc", "insertion_auc", "comprehensiveness", "sufficiency", "average_drop", "monotonicity")

KEYS = {
    "summary": (summary, ["n_elements"]),
    "support": (support, ["n_elements", "correct", "supporting"]),
    "positions": (positions, ["n_elements", "element"]),
    "pairs": (pairs, ["class", "n_elements", "element_i", "element_j"]),
    "contrasts": (contrasts, ["video_id", "n_elements", "element"]),
    "classes": (classes, ["class", "n_elements"]),
    "profiles": (profiles, ["class", "n_elements", "place"]),
    "confusions": (confusions, ["label", "predicted", "n_elements"]),
}
"""Tables by name, and the columns that make a row of each."""
FURTHER = {
    "marginals": (marginals, ["n_elements", "scale"]),
    "interactions": (interactions, ["class", "n_elements", "element_i", "element_j"]),
    "discards": (discards, ["n_elements", "method", "order", "discarded"]),
    "areas": (areas, ["n_elements", "method"]),
    "replacements": (replacements, ["n_elements", "replaced_by", "method"]),
    "needed": (needed, ["class", "n_elements", "elements"]),
}
"""Likewise, of tables that need further tables of a job."""
