"""Further tables in a forecast: what they compute besides ESVs, and their rows and bytes (`tables` of a spec)."""

from __future__ import annotations

from collections.abc import Collection
from math import comb

from esv_ray.core.cost import PlanCost, plan_cost
from esv_ray.core.engine import Engine
from esv_ray.output.computed import ORDERS
from esv_ray.output.layout import DISCARDS, INTERACTIONS, MARGINALS, ORDER, REPLACEMENTS, SANITY, SMOOTHNESS
from esv_ray.spec import JobSpec

# Seconds of one thread per subsequence, pair of elements and class; and per subsequence that is looked up, C = 174:
# n = 16 takes 100 ms with two classes, n = 12 4 ms.
_PAIR_S, _LOOKUP_S = 3e-9, 1.2e-5
# Bytes written per row (zstd), measured on the outputs of `esv_ray.forecast.io`.
_BYTES = {
    MARGINALS: 3.9,
    INTERACTIONS: 3.9,
    DISCARDS: 4.5,
    REPLACEMENTS: 4.5,
    SMOOTHNESS: 4.5,
    ORDER: 13.0,
    SANITY: 4.5,
}


def shorter_plans(spec: JobSpec, engine: Engine, n: int) -> tuple[tuple[PlanCost, int], ...]:
    """Return the plans of what is left while elements are taken away, and how many sequences of each per video.

    Exact attributions over lattices hold these values already.

    Args:
        spec: the job.
        engine: of the job.
        n: number of elements.
    """
    kind = engine.budget.kind(n)
    if DISCARDS not in spec.tables or (kind == "exact" and engine.extras.values):
        return ()
    alone, scales = engine.plain(), engine.model.scales
    plans = (plan_cost(alone.estimator, alone.budget.kind(k), k, scales) for k in range(1, n))
    return tuple((plan, min(_orders(spec), comb(n, plan.n))) for plan in plans)


def replaced_plans(spec: JobSpec, engine: Engine, n: int) -> tuple[tuple[PlanCost, int], ...]:
    """Return the plan of sequences with replaced elements, and how many of them per video, at most.

    Args:
        spec: the job.
        engine: of the job.
        n: number of elements.
    """
    if REPLACEMENTS not in spec.tables:
        return ()
    alone = engine.plain()
    curves = _replaced_orders(spec)
    # Both replacements of 1 to n - 1 elements, and mean elements alone, which are the same in all orders.
    count = 2 * sum(min(curves, comb(n, k)) for k in range(1, n)) + 1
    return ((plan_cost(alone.estimator, alone.budget.kind(n), n, engine.model.scales), count),)


def repeated(spec: JobSpec, layers: int, n: int) -> int:
    """Return how often a video is attributed once more for the tables of variations, at most.

    Args:
        spec: the job.
        layers: of the model that can be re-initialized.
        n: number of elements.
    """
    return sum(_variations(spec, layers, n).values())


def _variations(spec: JobSpec, layers: int, n: int) -> dict[str, int]:
    """Return the number of variations per video, at most, by table."""
    times = {SMOOTHNESS: 2 * len(spec.variations.offsets) * n, ORDER: spec.variations.shuffles, SANITY: layers}
    return {table: count for table, count in times.items() if table in spec.tables}


def by_other_methods(spec: JobSpec, stage: PlanCost, classes: int, *, any_length: bool) -> int:
    """Return the head evaluations that the other methods take per video, counting a gradient as two.

    Args:
        spec: the job.
        stage: cost of the ESVs' plan.
        classes: kept per video, at most.
        any_length: whether the model scores sequences of any length itself, in one evaluation; others evaluate every
            head that the ESVs do.
    """
    once = 1 if any_length else stage.evaluations
    # Of each sequence without an element, unless its score is a mean of the same heads' scores.
    alone = stage.n if any_length or stage.kind == "algorithm1" else 0
    times = {
        "integrated_gradients": 3 * spec.variations.steps * classes,
        "grad_cam": 1 + 2 * classes,
        "occlusion": 1 + alone,
        "random": 0,
    }
    return once * sum(times[method] for method in spec.methods[1:])


def extra_seconds(tables: Collection[str], n: int, classes: int) -> float:
    """Return the seconds per video that exact attributions take for further tables, at assumed rates.

    Args:
        tables: of the job.
        n: number of elements.
        classes: kept per video.
    """
    seconds = _PAIR_S * 2.0 ** min(n, 64) * n * n * classes if INTERACTIONS in tables else 0.0
    return seconds + (_LOOKUP_S * len(ORDERS) * n if DISCARDS in tables else 0.0)


def rows_per_video(spec: JobSpec, layers: int, n: int, classes: int, *, least: bool) -> dict[str, int]:
    """Return the rows of each further table per video.

    Args:
        spec: the job.
        layers: of the model that can be re-initialized.
        n: number of elements.
        classes: kept per video.
        least: whether to return the fewest, not the most: elements next to each other cannot be moved.
    """
    rows = {
        MARGINALS: classes * n * n,
        INTERACTIONS: classes * n * (n - 1) // 2,
        DISCARDS: _orders(spec) * (n + 1),
        REPLACEMENTS: _replaced_orders(spec) * (2 * n + 1),
        **_variations(spec, layers, n),
        ORDER: 1,
        **({SMOOTHNESS: 0} if least else {}),
    }
    return {table: rows[table] for table in spec.tables}


def _orders(spec: JobSpec) -> int:
    """Return the number of orders in which elements are taken away: other methods add two each."""
    return len(ORDERS) + 2 * (len(spec.methods) - 1)


def _replaced_orders(spec: JobSpec) -> int:
    """Return the number of orders in which elements are replaced: two of each method, and a random one."""
    return 1 + 2 * len(spec.methods)


def bytes_per_row(table: str) -> float:
    """Return the bytes of a row of a further table on storage."""
    return _BYTES[table]
