"""Grids of parameters of which the default suite tries some points, and `-m slow` the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest


def slow_unless(kept: Callable[[Any], bool], values: Iterable[Any]) -> list[Any]:
    """Return the values of one parameter; those that are not kept are marked slow."""
    return [value if kept(value) else pytest.param(value, marks=pytest.mark.slow) for value in values]


def slow_tuples_unless(kept: Callable[..., bool], values: Iterable[tuple[Any, ...]]) -> list[Any]:
    """Return the values of several parameters; those that are not kept are marked slow."""
    return [each if kept(*each) else pytest.param(*each, marks=pytest.mark.slow) for each in values]
