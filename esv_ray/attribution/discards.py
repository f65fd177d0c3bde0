"""Class scores while the elements of a sequence are taken away, in the orders of `output.computed.ORDERS` (issue 20).

Removal is the model's own: what is left is a shorter subsequence. Exact attributions hold the values of all of them.
For others, F of each subsequence is computed as the job's estimator does for a sequence of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch

from esv_ray.attribution.classes import probabilities
from esv_ray.attribution.sequences import Sequences
from esv_ray.attribution.workplace import Workplace
from esv_ray.core.attribution import Attribution
from esv_ray.core.discards import FIXED_ORDERS, by_contribution, fixed_order, kept_after, random_orders
from esv_ray.core.exact.values import largest_probabilities, values_at
from esv_ray.core.keyed import derive_key
from esv_ray.errors import JobError
from esv_ray.output.computed import METHODS, ORDERS, Discarded

Float32Array = npt.NDArray[np.float32]
Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Scores = Callable[[BoolArray], Float32Array]
"""Returns the class probabilities (B, K, C) of subsequences (B, K, n) that are neither empty nor whole."""


def discarded(
    place: Workplace,
    base: Sequences,
    contributions: Mapping[str, Float32Array],
    scores_of: Scores,
    best: Float32Array | None = None,
) -> Discarded:
    """Compute the scores of a batch of videos while elements are taken away.

    Args:
        place: job and model.
        base: sequences of the batch.
        contributions: (B, n) values of the elements for each video's class, by method; `esv` first, which also has the
            orders that depend on no values.
        scores_of: evaluates subsequences.
        best: (B, n + 1) largest probability of the class by length (`best_from_values`); None: unknown.
    """
    orders = orders_of(place, base, contributions)
    stacked = np.stack(list(orders.values()), axis=1)
    batch, count, n = stacked.shape
    kept = kept_after(stacked)  # (B, K, n + 1, n)
    found = np.empty((batch, count, n + 1, base.scores.shape[1]), np.float32)
    found[:, :, 0] = base.scores[:, None]
    found[:, :, n] = place.model.prior.float().cpu().numpy()
    if n > 1:
        between = kept[:, :, 1:n].reshape(batch, count * (n - 1), n)
        found[:, :, 1:n] = scores_of(between).reshape(batch, count, n - 1, -1)
    own = np.take_along_axis(found, base.classes[:, None, None, None], axis=3)[..., 0]
    most = np.full((batch, n + 1), np.nan, np.float32) if best is None else best[:, ::-1]
    methods = [METHODS.index(method) for method, _ in orders]
    names = [ORDERS.index(order) for _, order in orders]
    return Discarded(base.classes, methods, names, own, found.argmax(axis=3), most)


def scores_from_values(place: Workplace, result: Attribution) -> Scores:
    """Return the function that looks subsequences up among the values of an exact attribution."""
    values, output = result.values, place.spec.estimator.output
    assert values is not None, "the engine returns what the job asks for"
    empty = place.model.empty_value(output).to(result.esv)

    def scores_of(kept: BoolArray) -> Float32Array:
        return probabilities(values_at(values, empty, torch.from_numpy(kept).to(empty.device)), output)

    return scores_of


def best_from_values(place: Workplace, result: Attribution, classes: Int64Array) -> Float32Array:
    """Return (B, n + 1) the largest probability of each video's class over all subsequences of a length, ascending."""
    values, output = result.values, place.spec.estimator.output
    assert values is not None, "the engine returns what the job asks for"
    empty = place.model.empty_value(output).to(result.esv)
    own = torch.from_numpy(classes).to(empty.device)
    found = largest_probabilities(values, empty, result.esv.shape[1], own, logits=output == "logit")
    best: Float32Array = found.float().cpu().numpy()
    return best


def scores_from_engine(place: Workplace, features: torch.Tensor, ids: Sequence[str]) -> Scores:
    """Return the function that evaluates F of subsequences as sequences of their own.

    Args:
        place: job and model.
        features: (B, n, D) of the full sequences.
        ids: ids of the videos; with the seed they fix the relabelling of a sampled plan.
    """

    def scores_of(kept: BoolArray) -> Float32Array:
        batch, count, _ = kept.shape
        video, member, place_of = distinct(kept)
        found = np.empty((len(video), place.model.n_classes), np.float32)

        def chosen(selected: list[int]) -> torch.Tensor:
            elements = member[selected].nonzero()[1].reshape(len(selected), -1)
            return features[torch.from_numpy(video[selected])[:, None], torch.from_numpy(elements)]

        names = [ids[index] for index in video.tolist()]
        for selected, scores in scored(place, member.sum(axis=1).tolist(), names, chosen):
            found[selected] = scores
        return found[place_of].reshape(batch, count, -1)

    return scores_of


def distinct(kept: BoolArray) -> tuple[Int64Array, BoolArray, Int64Array]:
    """Return each subsequence of a video once: orders share many, such as all that hold one element.

    Args:
        kept: (B, K, n).

    Returns:
        (S,) videos and (S, n) elements of the subsequences; and (B * K,) the place of each of `kept` among them.
    """
    batch, count, n = kept.shape
    owner = np.repeat(np.arange(batch, dtype=np.uint32), count)
    keys = np.concatenate([owner[:, None].view(np.uint8), np.packbits(kept.reshape(-1, n), axis=1)], axis=1)
    _, first, place_of = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    return owner[first].astype(np.int64), kept.reshape(-1, n)[first], place_of.ravel()


def scored(
    place: Workplace, lengths: Sequence[int], ids: Sequence[str], features: Callable[[list[int]], torch.Tensor]
) -> Iterator[tuple[list[int], Float32Array]]:
    """Evaluate F of sequences with the job's estimator; yield the numbers of some, and their probabilities (S, C).

    Args:
        place: job and model.
        lengths: lengths of the sequences.
        ids: ids of their videos; with the seed they fix the relabelling of a sampled plan.
        features: returns (S, n, D) of the sequences of some numbers, all of one length.
    """
    for selected, result in place.engine.plain().attributions(lengths, ids, features):
        if place.stopped.is_set():
            raise JobError("stopped")
        place.heartbeat.beat()
        yield selected, probabilities(result.scores, place.spec.estimator.output)


def orders_of(
    place: Workplace, base: Sequences, contributions: Mapping[str, Float32Array]
) -> dict[tuple[str, str], Int64Array]:
    """Return the orders (B, n) of each method, by method and name (`discarded`)."""
    keys = [derive_key(place.spec.estimator.seed, "discards", name) for name in base.ids]
    orders = {}
    for method, values in contributions.items():
        orders[method, "descending"] = by_contribution(values, descending=True)
        orders[method, "ascending"] = by_contribution(values, descending=False)
        if method == "esv":
            batch, n = values.shape
            orders |= {(method, name): np.broadcast_to(fixed_order(name, n), (batch, n)) for name in FIXED_ORDERS}
            orders[method, "random"] = random_orders(keys, n)
    return orders
