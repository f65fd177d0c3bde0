"""The page that esv plan prints for a training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from esv_ray.errors import count_of
from esv_ray.show.text import printable

if TYPE_CHECKING:
    from esv_ray.forecast.training import PartForecast, TrainingForecast


def show_training(forecast: TrainingForecast) -> None:
    """Print the forecast of a training."""
    from esv_ray.core.memory import format_bytes as as_bytes

    data, spec = forecast.checked.data, forecast.spec
    click.echo(
        f"{count_of(forecast.training.videos, 'training video')}, {as_bytes(forecast.training.bytes)} of features; "
        f"{count_of(forecast.validation.videos, 'validation video')}, {as_bytes(forecast.validation.bytes)}; "
        f"D = {data.feature_dim}, C = {data.n_classes}"
    )
    seeds = f" x {len(spec.head_seeds)} seeds" if len(spec.head_seeds) > 1 else ""
    done = forecast.heads - forecast.heads_left
    state = f"; done: {done}, left: {forecast.heads_left}" if forecast.checked.planned else ""
    click.echo(f"{count_of(forecast.heads, 'head')}: scales 1 to {spec.n_max}{seeds}{state}")
    if not forecast.heads_left:
        click.echo(f"nothing is left to train: the model is in {printable(spec.output)}")
    click.echo(f"examples     {_by_scale(forecast.examples)} per epoch, at most {count_of(spec.epochs, 'epoch')}")
    click.echo(f"steps        {_by_scale(forecast.steps)} per epoch of batches of {spec.batch}")
    click.echo(f"weights      {forecast.weights:,} in the longest head")
    click.echo(f"memory       at most {as_bytes(forecast.actor_bytes)} per actor beside Python and its libraries:")
    click.echo(f"             {_held('training', forecast.training)}, {_held('validation', forecast.validation)},")
    click.echo(
        f"             weights {as_bytes(forecast.weight_bytes)}, batches {as_bytes(forecast.batch_bytes)}, reading "
        f"{as_bytes(forecast.reading_bytes)}"
    )
    for note in data.notes:
        click.echo(f"note: {printable(note)}")


def _held(name: str, part: PartForecast) -> str:
    from esv_ray.core.memory import format_bytes as as_bytes

    how = "kept" if part.kept else "streamed"
    return f"{name} videos {as_bytes(part.held_bytes)} ({how})"


def _by_scale(counts: Mapping[int, int]) -> str:
    """Return numbers by scale: one if all are equal, else the first and the last."""
    first, last = counts[min(counts)], counts[max(counts)]
    return f"{first:,}" if first == last else f"{first:,} (scale 1) to {last:,} (scale {max(counts)})"
