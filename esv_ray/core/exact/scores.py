"""Scores F of the subsequences of one scale of a lattice: the heads' share, and that of the parents."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from esv_ray.core.attribution import relabel_positions
from esv_ray.core.games.model import Scorer
from esv_ray.core.lattices.lattice import Lattice
from esv_ray.core.scales import Scales
from esv_ray.core.workspace import counting, gather_sum


@dataclass(frozen=True, eq=False)
class ScaleScores:
    """One scale of a batch.

    Attributes:
        scorer: the model's scorer.
        lattice: the lattice.
        s: length of the subsequences.
        prepared: what the scorer needs for them; None: no head.
        previous: F of the scale before, (N + 1, B, columns), with a row of zeros for parents that were not sampled; a
            full lattice has none, and does without it. None: parents have no share.
        relabelling: (B, n), or None.
    """

    scorer: Scorer
    lattice: Lattice
    s: int
    prepared: Tensor | None
    previous: Tensor | None
    relabelling: Tensor | None

    def write(self, start: int, stop: int, member: Tensor, out: Tensor) -> None:
        """Write F of some subsequences, of membership (n + 1, R), to out (R, B, columns)."""
        if self.prepared is not None:
            elements = None
            if self.scorer.ordered:
                elements = relabel_positions(self.lattice.elements(self.s, start, stop), self.relabelling)
            self.scorer.scores(self.prepared, elements, member, out)
        if self.previous is not None:
            assert self.scorer.scales is not None, "only heads are combined with parents"
            _add_parents(out, self.previous, self.lattice, self.s, start, stop, self.scorer.scales)


def _add_parents(
    out: Tensor, previous: Tensor, lattice: Lattice, s: int, start: int, stop: int, scales: Scales
) -> None:
    """Add the parents' share of F to out (R, B, columns); at a scale without a head, store their mean."""
    batch, columns = out.shape[1:]
    parents = lattice.parents(s, start, stop)  # (R, P)
    if batch > 1:
        parents = torch.add(counting(batch, parents.device)[:, None], parents[:, None], alpha=batch)
    total = gather_sum(previous.view(-1, columns), parents.view(-1, parents.shape[-1])).view_as(out)
    parent_share, alone = lattice.scales[s - 1].parent_share, not scales.has_head(s)
    if parent_share is None:  # all s parents were evaluated
        if alone:
            torch.mul(total, 1 / s, out=out)
        else:
            out.add_(total, alpha=scales.parents(s, s))
    elif alone:
        torch.mul(total, parent_share[start:stop, None], out=out)
    else:
        out.addcmul_(total, parent_share[start:stop, None], value=scales.parents(s))
