"""Comparisons of outputs by brute force: loops over rows, with correlations from their definitions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

Row = dict[str, Any]


def pearson(a: Sequence[float], b: Sequence[float]) -> float | None:
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    if len(set(a)) == 1 or len(set(b)) == 1:
        return None
    products = sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))
    squares = sum((x - mean_a) ** 2 for x in a) * sum((y - mean_b) ** 2 for y in b)
    return products / math.sqrt(squares)


def ranks(values: Sequence[float]) -> list[float]:
    return [sum(y < x for y in values) + (sum(y == x for y in values) + 1) / 2 for x in values]


def spearman(a: Sequence[float], b: Sequence[float]) -> float | None:
    return pearson(ranks(a), ranks(b))


def cosine(a: Sequence[float], b: Sequence[float]) -> float | None:
    norm = math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))
    return sum(x * y for x, y in zip(a, b, strict=True)) / norm if norm else None


def mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def rows_of(output: Path, table: str) -> list[Row]:
    return [row for file in sorted((output / table).iterdir()) for row in pq.read_table(file).to_pylist()]


def histogram(values: Sequence[float | None]) -> list[int]:
    """Return how many values lie in each tenth from -1 to 1."""
    known = [round(value, 9) for value in values if value is not None]
    return [sum(at / 10 <= value and (value < (at + 1) / 10 or at == 9) for value in known) for at in range(-10, 10)]


def compared(a: Path, b: Path, explained: str, methods: tuple[str, str] = ("esv", "esv")) -> dict[int, Row]:
    """Return, by number of elements, what the table `compare` holds, without intervals."""
    videos = [
        {(row["video_id"], row["n_elements"]): row for row in rows_of(output, "videos") if row["status"] == "ok"}
        for output in (a, b)
    ]
    esvs: list[dict[tuple[str, int, int], list[Row]]] = [{}, {}]
    for side, (output, method) in enumerate(zip((a, b), methods, strict=True)):
        for row in rows_of(output, "attributions"):
            if row.get("method", "esv") == method:
                esvs[side].setdefault((row["video_id"], row["n_elements"], row["class"]), []).append(row)
    expected = {}
    for n in sorted({key[1] for side in videos for key in side}):
        keys = [key for key in videos[0] if key in videos[1] and key[1] == n]
        pairs = [(videos[0][key], videos[1][key]) for key in keys]
        labelled = [(one, two) for one, two in pairs if one["label"] is not None]
        right = [(one["predicted"] == one["label"], two["predicted"] == one["label"]) for one, two in labelled]
        of_class = [(one, two, one[explained]) for one, two in pairs if one[explained] is not None]
        both = []
        for one, _, class_id in of_class:
            key = (one["video_id"], n, class_id)
            if key in esvs[0] and key in esvs[1]:
                both.append([sorted(side[key], key=lambda row: row["element"]) for side in esvs])
        values = [[[row["esv"] for row in rows] for rows in sides] for sides in both]
        units = []
        for rows_a, rows_b in both:
            errors = [math.hypot(x["stderr"] or 0, y["stderr"] or 0) for x, y in zip(rows_a, rows_b, strict=True)]
            units.append(
                mean(
                    [
                        abs(x["esv"] - y["esv"]) / error if error else None
                        for x, y, error in zip(rows_a, rows_b, errors, strict=True)
                    ]
                )
            )
        flat = [[value for pair in values for value in pair[side]] for side in (0, 1)]
        expected[n] = {
            "videos_a": sum(key[1] == n for key in videos[0]),
            "videos_b": sum(key[1] == n for key in videos[1]),
            "videos": len(pairs),
            "labelled": len(labelled),
            "compared": len(both),
            "right_in_both": right.count((True, True)),
            "right_in_a": right.count((True, False)),
            "right_in_b": right.count((False, True)),
            "right_in_neither": right.count((False, False)),
            "accuracy_a": mean([one for one, _ in right]),
            "accuracy_b": mean([two for _, two in right]),
            "accuracy_difference": mean([two - one for one, two in right]),
            "score_a": mean([one["scores"][class_id] for one, _, class_id in of_class]),
            "score_b": mean([two["scores"][class_id] for _, two, class_id in of_class]),
            "score_difference": mean([two["scores"][c] - one["scores"][c] for one, two, c in of_class]),
            "pearson": mean([pearson(*pair) for pair in values]),
            "spearman": mean([spearman(*pair) for pair in values]),
            "cosine": mean([cosine(*pair) for pair in values]),
            "difference": mean([sum(abs(x - y) for x, y in zip(*pair, strict=True)) / n for pair in values]),
            "in_stderrs": mean(units),
            "pearson_overall": pearson(*flat) if values else None,
            "spearman_overall": spearman(*flat) if values else None,
            "histogram": histogram([spearman(*pair) for pair in values]),
        }
    return expected
