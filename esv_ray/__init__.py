"""Element Shapley Values of video models, for whole data sets: exact or sampled, on a laptop or a Ray cluster.

Public names: `load_model`, `explain`, `load_spec`, `run`, `analyze`, `compare`, `sql`, `factory`, `fixed_length`,
`characteristic_game`.
Importing this package imports neither torch nor Ray; a name is loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from esv_ray.analysis.compare import compare
    from esv_ray.analysis.sql import sql
    from esv_ray.analysis.tables import analyze
    from esv_ray.attribution.work import run_job as run
    from esv_ray.consent import factory
    from esv_ray.core.games.model import characteristic_game
    from esv_ray.models.bundle import load_model
    from esv_ray.models.explain import explain
    from esv_ray.models.fixed_length import fixed_length
    from esv_ray.spec import load_spec

__all__ = [
    "analyze",
    "characteristic_game",
    "compare",
    "explain",
    "factory",
    "fixed_length",
    "load_model",
    "load_spec",
    "run",
    "sql",
]

_HOMES = {
    "analyze": ("esv_ray.analysis.tables", "analyze"),
    "characteristic_game": ("esv_ray.core.games.model", "characteristic_game"),
    "compare": ("esv_ray.analysis.compare", "compare"),
    "explain": ("esv_ray.models.explain", "explain"),
    "factory": ("esv_ray.consent", "factory"),
    "fixed_length": ("esv_ray.models.fixed_length", "fixed_length"),
    "load_model": ("esv_ray.models.bundle", "load_model"),
    "load_spec": ("esv_ray.spec", "load_spec"),
    "run": ("esv_ray.attribution.work", "run_job"),
    "sql": ("esv_ray.analysis.sql", "sql"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'esv_ray' has no attribute {name!r}")
    import importlib

    module, attribute = _HOMES[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
