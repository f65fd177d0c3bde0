"""The facets by name, in the order in which they are printed."""

from __future__ import annotations

from collections.abc import Mapping

from esv_ray.analysis.facets import (
    agreement,
    areas,
    classes,
    confusions,
    contrasts,
    discards,
    interactions,
    marginals,
    moments,
    needed,
    order,
    pairs,
    positions,
    profiles,
    replacements,
    sanity,
    smoothness,
    summary,
    support,
)
from esv_ray.analysis.facets.facet import Facet

FACETS: Mapping[str, Facet] = {
    facet.name: facet
    for facet in (
        summary.FACET,
        support.FACET,
        positions.FACET,
        pairs.FACET,
        marginals.FACET,
        smoothness.FACET,
        contrasts.FACET,
        classes.FACET,
        profiles.FACET,
        confusions.FACET,
        interactions.FACET,
        discards.FACET,
        areas.FACET,
        replacements.FACET,
        needed.FACET,
        moments.FACET,
        order.FACET,
        sanity.FACET,
        agreement.FACET,
    )
}
