"""Attentive probes with one learned query, in the layout in which V-JEPA (Bardes et al. 2024) saves them."""

from __future__ import annotations

import re

from torch import Tensor

from esv_ray.errors import ModelError
from esv_ray.models.class_tables import in_file
from esv_ray.models.manifest import PoolingManifest
from esv_ray.models.sources.checkpoints import read_checkpoint
from esv_ray.models.sources.imported import Imported
from esv_ray.models.sources.layouts import tensors_of_layout
from esv_ray.models.sources.notes import unused_rows
from esv_ray.models.sources.pooled import imported_pooled

_BLOCK = "pooler.cross_attention_block"
_PATTERN = re.compile(
    r"((?:.+?\.)??)(?:(?P<query>pooler\.query_tokens)"
    r"|pooler\.cross_attention_block\.(?:xattn\.|mlp\.)?(?P<layer>q|kv|proj|norm1|norm2|fc1|fc2)\.(?P<part>weight|bias)"
    r"|(?P<linear>linear)\.(?P<of_linear>weight|bias))"
)
_EXPECTED = f"pooler.query_tokens, {_BLOCK}.xattn.{{q,kv}} and linear"


def read_attentive_probe(checkpoint: str, *, attention_heads: int) -> Imported:
    """Read an attentive probe.

    Args:
        checkpoint: location.
        attention_heads: their number, which the tensors do not tell.

    Raises:
        ModelError: the file is no such checkpoint, has several queries or blocks, or holds further tensors that may
            change F.
    """
    read = read_checkpoint(checkpoint, lambda name: _PATTERN.fullmatch(name) is not None)
    state = tensors_of_layout(read, _PATTERN, _key, expected=_EXPECTED)
    with in_file(checkpoint):
        state["query"] = _query(state.get("query"))
        complete = "norm1.weight" in state
        return imported_pooled(
            PoolingManifest(form="query_attention", attention_heads=attention_heads),
            state,
            feature_dim=len(state["query"]),
            found=f"attentive probe of {attention_heads} attention heads, "
            + ("a complete block" if complete else "attention alone"),
            f="a classifier of what one learned query attends to",
            rows=tuple(unused_rows({checkpoint: read}, len(state["query"]))),
        )


def _key(match: re.Match[str]) -> str:
    """Return a tensor's name in `QueryAttentionPooling`."""
    if match["query"]:
        return "query"
    return f"linear.{match['of_linear']}" if match["linear"] else f"{match['layer']}.{match['part']}"


def _query(tokens: Tensor | None) -> Tensor:
    """Return the query (D,) of tokens (1, 1, D)."""
    if tokens is None or tokens.ndim != 3 or tokens.shape[:2] != (1, 1):
        got = "none" if tokens is None else str(tuple(tokens.shape))
        raise ModelError(f"pooler.query_tokens: expected one query, shape (1, 1, D), got {got}")
    return tokens[0, 0]
