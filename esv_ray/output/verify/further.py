"""The further tables of one committed unit (`tables` of its spec), checked against its videos and its ESVs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from esv_ray.output.layout import ATTRIBUTIONS, DISCARDS, INTERACTIONS, MARGINALS, ORDER, REPLACEMENTS, SANITY
from esv_ray.output.verify.curves import discard_problems, replacement_problems
from esv_ray.output.verify.expected import Expected
from esv_ray.output.verify.rows import first_wrong, matched

_SEQUENCE = ["video_id", "n_elements"]
_ROUNDING = 1e-5  # of a mean of float32 values of order 1


def further_problems(
    ok_videos: pa.Table, tables: Mapping[str, pa.Table], expected: Expected
) -> Iterator[tuple[str, str]]:
    """Yield the problems of the further tables of a unit: the folder of the table, and one line.

    Args:
        ok_videos: the `ok` rows of its videos table.
        tables: its other tables, by their folders.
        expected: constraints that its job sets.
    """
    of_esv = tables[ATTRIBUTIONS].filter(pc.equal(tables[ATTRIBUTIONS].column("method"), "esv"))
    checks: dict[str, Callable[[pa.Table], Iterator[str]]] = {
        MARGINALS: lambda table: _marginals(table, of_esv),
        INTERACTIONS: lambda table: _interactions(table, of_esv, expected),
        DISCARDS: lambda table: discard_problems(table, ok_videos, expected),
        REPLACEMENTS: lambda table: replacement_problems(table, ok_videos, expected),
        ORDER: lambda table: _order(table, ok_videos),
        SANITY: lambda table: _sanity(table, ok_videos),
    }
    for folder, check in checks.items():
        if folder in tables:
            yield from ((folder, problem) for problem in check(tables[folder]))


def method_problems(rows: pa.Table, of_esv: pa.Table, expected: Expected) -> list[str]:
    """Check the values of other methods: finite, one for each ESV, of the job's methods only.

    Args:
        rows: the attributions of a unit.
        of_esv: those rows of the method `esv`.
        expected: constraints that its job sets.
    """
    unknown = sorted(set(pc.unique(rows.column("method")).to_pylist()) - set(expected.methods))
    if unknown:
        return [f"expected the methods {', '.join(expected.methods)}, got {unknown[0]!r:.60}"]
    keys = [*_SEQUENCE, "class", "element", "frame_index"]
    problems = []
    for method in expected.methods[1:]:
        own = rows.filter(pc.equal(rows.column("method"), method))
        if matched(of_esv.select(keys), own.select(keys), keys) is None:
            problems.append(f"expected a value of {method} beside each ESV, and no other")
        elif not np.isfinite(own.column("esv").to_numpy()).all():
            problems.append(f"values of {method} are not finite")
        elif own.column("stderr").null_count != own.num_rows:
            problems.append(f"{method} has no standard errors")
    return problems


def _marginals(table: pa.Table, esvs: pa.Table) -> Iterator[str]:
    """Check that each ESV has a marginal for each scale, and is their mean over scales."""
    keys = [*_SEQUENCE, "class", "element"]
    found = table.group_by(keys, use_threads=False).aggregate(
        [("marginal", "mean"), ("scale", "count_distinct"), ("scale", "min"), ("scale", "max"), ("scale", "count")]
    )
    both = matched(esvs.select([*keys, "esv"]), found, keys)
    if both is None:
        yield "expected the marginals of each ESV, and of no other"
        return
    n = both.column("n_elements").to_numpy()
    counts = (both.column(f"scale_{name}").to_numpy() for name in ("count_distinct", "min", "max", "count"))
    distinct, least, most, rows = counts
    yield from first_wrong(
        both, keys, (distinct == n) & (rows == n) & (least == 1) & (most == n), "one marginal per scale"
    )
    esv = both.column("esv").to_numpy().astype(np.float64)
    gaps = np.abs(both.column("marginal_mean").to_numpy(zero_copy_only=False).astype(np.float64) - esv)
    allowed = _ROUNDING * np.maximum(1.0, np.abs(esv))
    yield from first_wrong(both, keys, gaps <= allowed, "marginals whose mean over scales is the ESV")


def _interactions(table: pa.Table, esvs: pa.Table, expected: Expected) -> Iterator[str]:
    """Check that each class with ESVs has an interaction for each pair of elements, in range."""
    keys = [*_SEQUENCE, "class"]
    i, j, n = (table.column(name).to_numpy().astype(np.int64) for name in ("element_i", "element_j", "n_elements"))
    pairs = table.select(keys).append_column("pair", pa.array(i * n + j))
    found = pairs.group_by(keys, use_threads=False).aggregate([("pair", "count_distinct"), ("pair", "count")])
    # A sequence of one element has no pair.
    longer = esvs.filter(pc.greater(esvs.column("n_elements"), 1))
    both = matched(longer.group_by(keys, use_threads=False).aggregate([]), found, keys)
    if both is None:
        yield "expected the interactions of each class with ESVs, and of no other"
        return
    yield from first_wrong(table, keys, (i >= 0) & (i < j) & (j < n), "elements i < j < n")
    count = both.column("n_elements").to_numpy().astype(np.int64)
    count = count * (count - 1) // 2
    distinct, rows = (both.column(f"pair_{name}").to_numpy() for name in ("count_distinct", "count"))
    yield from first_wrong(both, keys, (distinct == count) & (rows == count), "one interaction per pair of elements")
    # Of probabilities: a mean of v - v - v + v.
    most = np.inf if expected.ranges.in_logits else 2 + _ROUNDING
    values = np.abs(table.column("interaction").to_numpy())
    yield from first_wrong(
        table, keys, np.isfinite(values) & (values <= most), f"finite interactions, at most {most:g}"
    )


def _order(table: pa.Table, ok_videos: pa.Table) -> Iterator[str]:
    """Check that each sequence has a row."""
    if matched(ok_videos.select(_SEQUENCE), table.select(_SEQUENCE), _SEQUENCE) is None:
        yield "expected a row of each video that is ok, and of no other"


def _sanity(table: pa.Table, ok_videos: pa.Table) -> Iterator[str]:
    """Check that each sequence has a row for 1 to L layers, the same L for all; a model without weights has none."""
    if not table.num_rows:
        return
    found = table.group_by(_SEQUENCE, use_threads=False).aggregate(
        [("layers_randomised", "count_distinct"), ("layers_randomised", "min"), ("layers_randomised", "count")]
    )
    if matched(ok_videos.select(_SEQUENCE), found.select(_SEQUENCE), _SEQUENCE) is None:
        yield "expected rows of each video that is ok, and of no other"
    most = pc.max(table.column("layers_randomised")).as_py()
    distinct, least, rows = (
        found.column(f"layers_randomised_{name}").to_numpy() for name in ("count_distinct", "min", "count")
    )
    yield from first_wrong(found, _SEQUENCE, (distinct == most) & (rows == most) & (least == 1), f"layers 1 to {most}")
