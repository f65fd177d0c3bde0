"""The kinds of work that a spec may describe. `esv plan`, `esv submit` and `esv render` serve all of them.

A further kind is one more entry of `KINDS`, what the check of a cluster looks at (`submit.ray_jobs.checks`), and a
forecast.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from esv_ray import storage
from esv_ray.errors import SpecError
from esv_ray.spec import JobSpec, Source, load_spec
from esv_ray.spec_extract import ExtractSpec, load_extract_spec
from esv_ray.spec_text import read_yaml
from esv_ray.spec_train import MARKS, TrainSpec, load_train_spec

WorkSpec = JobSpec | ExtractSpec | TrainSpec
"""The spec of any kind of work: all have `output`, `threads` and `cluster`."""


@dataclass(frozen=True)
class Kind:
    """A kind of work.

    Attributes:
        command: name of the command that runs it: ``esv COMMAND SPEC``.
        spec: class of its specs.
        load: function that loads one, as `spec.load_spec`.
        marks: keys that only its specs have; empty: every spec without the marks of other kinds is of this kind.
        reads: keys of the locations that it reads; values that are not strings are not locations.
        has_partitions: whether its input may be a folder of partitions.
    """

    command: str
    spec: type[WorkSpec]
    load: Callable[..., WorkSpec]
    marks: frozenset[str]
    reads: tuple[str, ...]
    has_partitions: bool = False


ATTRIBUTION = Kind("attribute", JobSpec, load_spec, frozenset(), ("features", "model"), has_partitions=True)
EXTRACTION = Kind(
    "extract",
    ExtractSpec,
    load_extract_spec,
    frozenset({"videos", "backbone"}),
    ("videos", "weights", "labels", "classes"),
)
TRAINING = Kind("train", TrainSpec, load_train_spec, MARKS, ("features", "validation", "classes"))
KINDS = (EXTRACTION, TRAINING, ATTRIBUTION)
"""All kinds, in the order of the search: the kind of a spec is the first whose marks it has."""


def kind_of(spec: WorkSpec) -> Kind:
    """Return the kind of a spec."""
    return next(kind for kind in KINDS if isinstance(spec, kind.spec))


def locations_of(spec: WorkSpec) -> list[tuple[str, str]]:
    """Return the locations that a job reads and writes, with their keys."""
    parts = spec.extractions if isinstance(spec, ExtractSpec) else (spec,)  # several backbones have weights each
    found = [(key, getattr(part, key)) for part in parts for key in kind_of(spec).reads]
    return list(dict.fromkeys((key, url) for key, url in (*found, ("output", spec.output)) if isinstance(url, str)))


def kind_in(source: Source, overrides: Iterable[str] = ()) -> Kind:
    """Return the kind of work that a YAML file or a mapping, with overrides ``key=value``, describes.

    Raises:
        SpecError: the file is not a YAML mapping.
        DataError: the file cannot be read.
    """
    if source is None or isinstance(source, Mapping):
        values = source or {}
    else:
        values = read_yaml(storage.given(source, "source"))
    keys = {*values, *(override.partition("=")[0].strip().partition(".")[0] for override in overrides)}
    return next(kind for kind in KINDS if kind.marks & keys or not kind.marks)


def load_work(source: Source = None, overrides: Iterable[str] = (), *, code: Iterable[str] = ()) -> WorkSpec:
    """Load and validate the spec of any kind of work; arguments and errors as for `spec.load_spec`."""
    listed = list(overrides)
    return kind_in(source, listed).load(source, listed, code=code)


def check_kind(source: str, expected: Kind) -> None:
    """Refuse a file with the spec of another kind of work.

    Raises:
        SpecError: the spec is of another kind; the error names the command that takes it.
    """
    found = kind_in(source)
    if found is not expected:
        raise SpecError(
            f"{source}: expected a spec of esv {expected.command}, got one of esv {found.command}; run esv "
            f"{found.command} {source}"
        )
