"""The further tables of a unit (`tables` of a spec), with the contract's schemas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from esv_ray.output.computed import METHODS, ORDERS, REPLACED_BY, Computed, Float32Array
from esv_ray.output.expanding import Block, UnitTable, expanded
from esv_ray.output.layout import DISCARDS, INTERACTIONS, MARGINALS, REPLACEMENTS, VARIATIONS
from esv_ray.output.schemas import SCHEMAS


def further_table(folder: str, ids: Sequence[str], computed: Sequence[Computed]) -> UnitTable:
    """Return a further table of a unit.

    Args:
        folder: folder of the table.
        ids: ids of the input rows.
        computed: results, in any order, with what the table holds.
    """
    return _variations(folder, ids, computed) if folder in VARIATIONS else _FURTHER[folder](ids, computed)


def _marginals(ids: Sequence[str], computed: Sequence[Computed]) -> UnitTable:
    """Return one row per (input row, n_elements, class, element, scale), ascending."""
    blocks = []
    for batch in computed:
        assert batch.marginals is not None, "the job asked for them"
        element, scale = (axis.ravel() for axis in np.indices((batch.n, batch.n)))
        values = batch.marginals.transpose(0, 2, 1).reshape(len(batch.pairs), batch.n**2)
        places = {"element": element, "scale": scale + 1}
        blocks.append(_of_pairs(batch, places, {"marginal": values}))
    return expanded(ids, blocks, SCHEMAS[MARGINALS])


def _interactions(ids: Sequence[str], computed: Sequence[Computed]) -> UnitTable:
    """Return one row per (input row, n_elements, class, element_i, element_j), ascending."""
    blocks = []
    for batch in computed:
        assert batch.interactions is not None, "the job asked for them"
        i, j = np.triu_indices(batch.n, k=1)
        blocks.append(_of_pairs(batch, {"element_i": i, "element_j": j}, {"interaction": batch.interactions}))
    return expanded(ids, blocks, SCHEMAS[INTERACTIONS])


def _of_pairs(batch: Computed, places: Mapping[str, np.ndarray], values: Mapping[str, Float32Array]) -> Block:
    return Block(batch.rows[batch.pairs[:, 0]], batch.n, {"class": batch.pairs[:, 1]}, places, values)


def _discards(ids: Sequence[str], computed: Sequence[Computed]) -> UnitTable:
    """Return one row per (input row, n_elements, method, order, discarded), in the orders of `METHODS` and `ORDERS`."""
    blocks = []
    for batch in computed:
        kept = batch.discarded
        assert kept is not None, "the job asked for them"
        steps = np.arange(batch.n + 1)
        places = {
            "method": np.repeat(np.asarray(kept.methods), len(steps)),
            "order": np.repeat(np.asarray(kept.orders), len(steps)),
            "discarded": np.tile(steps, len(kept.methods)),
        }
        shape = len(batch.rows), len(places["discarded"])
        values: dict[str, Any] = {"score": kept.scores.reshape(shape), "predicted": kept.predicted.reshape(shape)}
        values["best"] = np.tile(kept.best, len(kept.methods))
        blocks.append(Block(batch.rows, batch.n, {"class": kept.classes}, places, values))
    return expanded(ids, blocks, SCHEMAS[DISCARDS], {"method": METHODS, "order": ORDERS})


def _replacements(ids: Sequence[str], computed: Sequence[Computed]) -> UnitTable:
    """Return one row per (input row, n_elements, method, order, replaced_by, discarded), in the order of their names.

    When all elements are taken away, none is left to repeat: that row exists only for the mean element.
    """
    blocks = []
    for batch in computed:
        kept = batch.replaced
        assert kept is not None, "the job asked for them"
        values: dict[str, Any] = {"score": kept.scores, "predicted": kept.predicted}
        blocks.append(Block(batch.rows, batch.n, {"class": kept.classes}, kept.places, values))
    words = {"method": METHODS, "order": ORDERS, "replaced_by": REPLACED_BY}
    return expanded(ids, blocks, SCHEMAS[REPLACEMENTS], words)


def _variations(folder: str, ids: Sequence[str], computed: Sequence[Computed]) -> UnitTable:
    """Return the rows of a table of variations, by (input row, n_elements, keys), ascending."""
    blocks = [
        Block(
            batch.rows[varied.videos],
            batch.n,
            varied.keys,
            {},
            {name: column[:, None] for name, column in varied.values.items()},
        )
        for batch in computed
        for varied in [batch.varied[folder]]
    ]
    return expanded(ids, blocks, SCHEMAS[folder])


_FURTHER = {MARGINALS: _marginals, INTERACTIONS: _interactions, DISCARDS: _discards, REPLACEMENTS: _replacements}
