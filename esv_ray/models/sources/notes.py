"""Report the tensors and numbers of checkpoints that an import did not use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from esv_ray.errors import count_of
from esv_ray.models.class_tables import few
from esv_ray.models.sources.checkpoints import Checkpoint
from esv_ray.models.sources.imported import Row

_MOST_GROUPS = 20  # of unused tensors


def unused_rows(read: Mapping[str, Checkpoint], feature_dim: int) -> tuple[Row, ...]:
    """Report unused tensors and numbers, and choices that only the author of the files can confirm.

    Args:
        read: the checkpoints by location.
        feature_dim: D.

    Returns:
        Rows of the summary (`Imported.rows`).
    """
    unused = sum((checkpoint.unused for checkpoint in read.values()), Counter[str]())
    groups = [counted(name, count) for name, count in unused.items() if count]
    groups += dict.fromkeys(_shown(number) for checkpoint in read.values() for number in checkpoint.numbers)
    rows = [("not used", few(groups, _MOST_GROUPS))] if groups else []
    inner = [
        _shown(name)
        for checkpoint in read.values()
        for name, inputs in checkpoint.backbone.items()
        if inputs == feature_dim
    ]
    if inner:
        text = f"unused layers of a backbone with D inputs; correct if the features are their outputs: {few(inner)}"
        rows.append(("note", text))
    averages = [
        f"{url} ({_shown(checkpoint.average)})" for url, checkpoint in read.items() if checkpoint.average is not None
    ]
    if averages:
        text = f"averages of the weights are used, since there are no other weights: {few(averages)}"
        rows.append(("note", text))
    modules = [f"{url} ({_shown(checkpoint.classes[0])})" for url, checkpoint in read.items() if checkpoint.classes]
    if modules:
        rows.append(("note", f"files of whole modules, of which the tensors alone are read: {few(modules)}"))
    return tuple(rows)


def counted(name: str, count: int) -> str:
    """Name a group of tensors with their number."""
    return f"{_shown(name)} ({count_of(count, 'tensor')})"


def _shown(name: str) -> str:
    return name if name.isprintable() and len(name) <= 60 else repr(name)[:60]
