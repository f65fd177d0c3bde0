"""Heads of a multi-scale model, evaluated on every subsequence of a lattice.

The first layer of an MLP head is linear in the concatenated elements, so the pre-activation of a subsequence is a sum
of s rows of a table P[k, i] = W1[:, block k] x_i that is computed once per video: a gather-sum instead of a product
over s * D inputs. Position k can only hold elements k .. n - s + k, so the table has s * (n - s + 1) rows, not s * n.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from esv_ray.core.games.images import held_numbers
from esv_ray.core.games.modules import gather_subsequences, weighted_sums
from esv_ray.core.scales import Combine, Scales
from esv_ray.core.workspace import Workspace, counting, gather_sum
from esv_ray.errors import ModelError


class MlpHead(nn.Module):
    """Head f^s as the paper trains it: an MLP on the concatenation of s elements in time order.

    [ReLU on the input,] then dropout, then per hidden layer: linear, [batch norm,] ReLU; then linear.
    """

    def __init__(
        self,
        *,
        scale: int,
        feature_dim: int,
        hidden_dims: Sequence[int],
        n_classes: int,
        batch_norm: bool = False,
        input_relu: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        dims = [scale * feature_dim, *hidden_dims, n_classes]
        batch_norm = batch_norm and len(hidden_dims) > 0
        self.scale = scale
        self.feature_dim = feature_dim
        self.n_classes = n_classes
        self.input_relu = input_relu
        self.dropout = dropout
        self.linears = nn.ModuleList(
            nn.Linear(before, after, bias=not batch_norm or after_index == len(dims) - 1)
            for after_index, (before, after) in enumerate(pairwise(dims), start=1)
        )
        self.norms = nn.ModuleList(nn.BatchNorm1d(dim) for dim in hidden_dims) if batch_norm else None

    def forward(self, subsequences: Tensor) -> Tensor:
        """Return logits (N, C) of subsequences (N, s, D)."""
        out = subsequences.flatten(1)
        if self.input_relu:
            out = out.relu()
        out = F.dropout(out, self.dropout, self.training)
        for index, linear in enumerate(self.linears):
            out = linear(out)
            if index < len(self.linears) - 1:
                out = (out if self.norms is None else self.norms[index](out)).relu()
        return out

    @torch.no_grad()
    def layers(self) -> list[tuple[Tensor, Tensor]]:
        """Return weights (out, in) and biases (out,), with batch norm in eval mode folded in (in float64)."""
        folded = []
        for index, linear in enumerate(self.linears):
            assert isinstance(linear, nn.Linear)
            weight = linear.weight.double()
            bias = torch.zeros(len(weight), dtype=torch.float64) if linear.bias is None else linear.bias.double()
            if self.norms is not None and index < len(self.norms):
                norm = self.norms[index]
                assert isinstance(norm, nn.BatchNorm1d)
                assert norm.running_mean is not None
                assert norm.running_var is not None
                gain = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
                weight, bias = weight * gain[:, None], (bias - norm.running_mean) * gain + norm.bias.double()
            folded.append((weight.to(linear.weight.dtype), bias.to(linear.weight.dtype)))
        return folded


class GatherHead(nn.Module):
    """An MLP head laid out for the gather-sum; its scores are divided (`Scales.share`)."""

    first: Tensor
    first_bias: Tensor

    def __init__(self, head: MlpHead, share: float, *, padded: bool) -> None:
        super().__init__()
        self.scale = head.scale
        self.input_relu = head.input_relu
        (weight, bias), *later_layers = head.layers()
        columns = _columns(head.n_classes) if padded else head.n_classes
        if later_layers:
            later_layers[-1] = _as_columns(*later_layers[-1], columns, share=1 / share)
        else:
            weight, bias = _as_columns(weight, bias, columns, share=1 / share)
        # (s, D, H): block k multiplies the element at position k.
        self.register_buffer("first", weight.view(len(weight), self.scale, -1).permute(1, 2, 0).contiguous())
        self.register_buffer("first_bias", bias)
        self.n_rest = len(later_layers)
        self.widest = max(len(bias) for _, bias in [(weight, bias), *later_layers[:-1]])
        for index, (weight, bias) in enumerate(later_layers):
            self.register_buffer(f"weight_{index}", weight.t().contiguous())  # (in, out)
            self.register_buffer(f"bias_{index}", bias)

    def _layer(self, index: int) -> tuple[Tensor, Tensor]:
        """Return bias (out,) and weight (in, out) of a layer after the first; `get_buffer` would take 4 us each."""
        bias, weight = self._buffers[f"bias_{index}"], self._buffers[f"weight_{index}"]
        assert bias is not None, "registered as a tensor"
        assert weight is not None, "registered as a tensor"
        return bias, weight

    def table(self, features: Tensor, workspace: Workspace) -> Tensor:
        """Return the first-layer table of features (n, B, D): (s, n - s + 1, B, H); position 0 includes the bias."""
        first = self.first
        n, batch, dim = features.shape
        places = n - self.scale + 1
        elements = features.relu() if self.input_relu else features
        # Overlapping windows of the same memory: position k covers elements k .. k + places - 1.
        windows = elements.as_strided((self.scale, places * batch, dim), (batch * dim, dim, 1))
        table = workspace.take("table", (self.scale, places * batch, first.shape[2]))
        torch.bmm(windows, first, out=table)
        table[0] += self.first_bias
        return table.view(self.scale, places, batch, -1)

    def scores(self, table: Tensor, elements: Tensor, out: Tensor) -> None:
        """Write scores to out (R * B, columns), from the table and positions (R, 1 or B, s) int32."""
        s, places, batch, hidden = table.shape
        rows = elements + _row_starts(s, places, table.device)
        if batch > 1:
            rows = torch.add(counting(batch, table.device)[:, None], rows, alpha=batch)  # (R, B, s)
        held = gather_sum(table.view(-1, hidden), rows.reshape(-1, s))  # (R * B, H)
        for index in range(self.n_rest - 1):
            bias, weight = self._layer(index)
            held = torch.addmm(bias, held.relu_(), weight)
        if self.n_rest:
            bias, weight = self._layer(self.n_rest - 1)
            torch.addmm(bias, held.relu_(), weight, out=out)
        else:
            out.copy_(held)

    def lay_out(self, elements: Tensor) -> Tensor:
        """Return the first-layer table (s, B, places, H) of elements (B, n, D), differentiable; with the bias."""
        places = elements.shape[1] - self.scale + 1
        inputs = elements.relu() if self.input_relu else elements
        windows = torch.stack([inputs[:, k : k + places] for k in range(self.scale)])  # (s, B, places, D)
        table = torch.bmm(windows.flatten(1, 2), self.first).view(*windows.shape[:3], -1)
        return torch.cat([table[:1] + self.first_bias, table[1:]])

    def weighted(self, table: Tensor, positions: Tensor, weights: Tensor) -> Tensor:
        """Return weighted sums of the scores, differentiable in the table (`model.Scorer`).

        The last layer is linear: it is applied to the weighted sums of the hidden layer. The gather-sum is a product
        with a 0/1 matrix here, whose gradient is a product, too: at n = 16, s = 8, H = 256 forward and backward take
        50 ms, with `embedding_bag` 120 ms.
        """
        last = self.n_rest - 1
        held = _gathered(table, positions + _row_starts(self.scale, table.shape[2], table.device))  # (R, B, H)
        for index in range(last):
            bias, weight = self._layer(index)
            held = torch.matmul(held.relu(), weight) + bias
        total: Tensor = torch.tensordot(weights, held.relu() if self.n_rest else held, dims=1)  # (K, B, H)
        if self.n_rest == 0:
            return total
        bias, weight = self._layer(last)
        return torch.matmul(total, weight) + weights.sum(dim=1)[:, None, None] * bias


def _gathered(table: Tensor, rows: Tensor) -> Tensor:
    """Return sums of rows of first-layer tables, by a product with a 0/1 matrix.

    Args:
        table: (s, B, places, H).
        rows: (R, 1 or B, s) rows of a video's table (s * places, H).

    Returns:
        (R, B, H).
    """
    s, batch, places, hidden = table.shape
    picks = table.new_zeros((*rows.shape[:2], s * places)).scatter_(-1, rows.long(), 1.0)
    if rows.shape[1] == 1:
        return torch.mm(picks[:, 0], table.transpose(1, 2).reshape(s * places, -1)).view(-1, batch, hidden)
    by_video = table.transpose(0, 1).reshape(batch, s * places, hidden)
    return torch.bmm(picks.transpose(0, 1), by_video).transpose(0, 1)


@lru_cache(maxsize=1024)
def _row_starts(s: int, places: int, device: torch.device) -> Tensor:
    """Return (s,) int32: element e at position k is in row k * places + (e - k) of the table, which is e plus this."""
    return counting(s, device) * (places - 1)


def _columns(n_classes: int) -> int:
    """Return the number of columns for the scores of C classes.

    Rows fill whole cache lines: for C = 174 in 176 columns the second-layer product takes 1.25 us per subsequence
    instead of 1.45, the gather of parents 13 ns per row instead of 17, the softmax 5 % less.
    """
    return -(-n_classes // 16) * 16 if n_classes >= 64 else n_classes


def _as_columns(weight: Tensor, bias: Tensor, columns: int, *, share: float) -> tuple[Tensor, Tensor]:
    """Scale a last layer (C, in), (C,) by a factor, and pad it to `columns` with classes of probability zero."""
    idle = columns - len(bias)
    weight = torch.cat([weight * share, weight.new_zeros((idle, weight.shape[1]))])
    return weight, torch.cat([bias * share, bias.new_full((idle,), -torch.inf)])


class MultiScale(nn.Module):
    """The multi-scale model F: heads f^s, at most one per scale, combined as `Scales` says (Eq. 8 and 9)."""

    softmax = True
    probabilities = True
    ordered = True
    longest: int | None = None

    def __init__(
        self,
        heads: Mapping[int, nn.Module],
        *,
        feature_dim: int,
        weights: Mapping[int, float] | None = None,
        combine: Combine = "mean",
        projection: nn.Linear | None = None,
    ) -> None:
        """Lay out the heads.

        Args:
            heads: for some scales s >= 1 a module (N, s, D') -> (N, C) logits; an `MlpHead` uses the gather-sum.
            feature_dim: D' of the heads' elements.
            weights: weight of each head; None: 1.
            combine: whether F is the weighted mean over the scales, or the weighted sum.
            projection: applied to every element before the heads, (..., D) -> (..., D'); None: D' = D.

        Raises:
            ModelError: there is no head, a scale is below 1, or a weight is missing or unusable.
        """
        super().__init__()
        if not heads or min(heads) < 1:
            raise ModelError(f"a multi-scale model needs heads of scales >= 1, got scales {sorted(heads)}")
        given = dict.fromkeys(heads, 1.0) if weights is None else weights
        if set(given) != set(heads) or not all(given.values()):
            raise ModelError(f"expected a weight above 0 for every head, of scales {sorted(heads)}, got {dict(given)}")
        try:
            self.scales = Scales(tuple(float(given.get(s, 0)) for s in range(1, max(heads) + 1)), combine)
        except ValueError as error:
            raise ModelError(str(error)) from None
        self.feature_dim = feature_dim
        self.projection = projection
        self.padded = all(isinstance(head, MlpHead) for head in heads.values())
        self.heads = nn.ModuleDict()  # by s - 1
        self._by_scale: dict[int, nn.Module] = {}  # the same: a look-up in a `ModuleDict` takes 2 us
        for s in sorted(heads):
            head = heads[s]
            laid_out = GatherHead(head, self.scales.share(s), padded=self.padded) if isinstance(head, MlpHead) else head
            self.heads[str(s - 1)] = self._by_scale[s] = laid_out.eval()

    def embed(self, features: Tensor) -> Tensor:
        """Return the elements (..., D') that the heads see, of features (..., D)."""
        return features if self.projection is None else self.projection(features)

    def _head(self, s: int) -> nn.Module:
        return self._by_scale[s]

    def called(self) -> dict[int, nn.Module]:
        """Return the heads that are called on gathered subsequences (all but MLPs), by scale."""
        heads = {s: self._head(s) for s in self.scales.heads(self.scales.n_max)}
        return {s: head for s, head in heads.items() if not isinstance(head, GatherHead)}

    def columns(self, n_classes: int) -> int:
        """Return the width of the scores: if all heads are MLPs, idle columns (-inf) may follow the classes."""
        return _columns(n_classes) if self.padded else n_classes

    def width(self, s: int) -> int:
        """Return the numbers held per subsequence: the hidden layer of an MLP head, or the gathered features."""
        if not self.scales.has_head(s):
            return 0
        head = self._head(s)
        return int(head.widest) if isinstance(head, GatherHead) else s * held_numbers(head, self.feature_dim)

    def prepare(self, features: Tensor, s: int, workspace: Workspace) -> Tensor:
        """Return the first-layer table of an MLP head, or features (B, n, D); from features (n, B, D), contiguous."""
        head = self._head(s)
        return head.table(features, workspace) if isinstance(head, GatherHead) else features.transpose(0, 1)

    def scores(self, prepared: Tensor, elements: Tensor | None, member: Tensor, out: Tensor) -> None:
        """Write f^s / `Scales.share` to out (R, B, columns), for positions (R, 1 or B, s)."""
        del member
        assert elements is not None, "an ordered game needs positions"
        s = elements.shape[-1]
        head = self._head(s)
        if isinstance(head, GatherHead):
            head.scores(prepared, elements, out.view(-1, out.shape[-1]))
        else:
            logits: Tensor = head(gather_subsequences(prepared, elements))
            torch.div(logits.view_as(out), self.scales.share(s), out=out)

    def lay_out(self, elements: Tensor, s: int) -> Tensor:
        """Return the first-layer table of an MLP head, or the elements (B, n, D') themselves; differentiable."""
        head = self._head(s)
        return head.lay_out(elements) if isinstance(head, GatherHead) else elements

    def weighted(self, laid_out: Tensor, positions: Tensor, weights: Tensor) -> Tensor:
        """Return weighted sums of f^s / `Scales.share`, differentiable (`model.Scorer`)."""
        s = positions.shape[-1]
        head = self._head(s)
        if isinstance(head, GatherHead):
            return head.weighted(laid_out, positions, weights)
        logits: Tensor = head(gather_subsequences(laid_out, positions))
        return weighted_sums(logits, weights) / self.scales.share(s)
