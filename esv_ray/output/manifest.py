"""run.json: the plan of a job, stored beside its tables.

Anybody may have changed the file. So all of it is checked when it is read, and an error names the fault in one line
(issue 15).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictInt, ValidationError

from esv_ray import storage
from esv_ray.errors import DataError, JobError, StorageError
from esv_ray.input.directories import check_named
from esv_ray.input.files import InputFile
from esv_ray.input.units import RowRange, Unit
from esv_ray.output.layout import RUN, folders_of
from esv_ray.spec import JobSpec, fingerprint, job_keys

Count = Annotated[StrictInt, Field(ge=0, lt=2**63)]
Share = Annotated[float, Field(ge=0, le=1.001, allow_inf_nan=False)]

FORMAT, FORMAT_OF_FILES = 4, 5
"""Of a plan; the second if a unit has rows of several files, which earlier development versions cannot read."""
_PRIOR_GAP = 2e-4  # |sum - 1|: twice what a bundle's may have
_MOST_RUN_BYTES = 2**30  # a plan of a million units has 60 MB, one of a million files 300 MB
_SHOWN = 60  # characters of a value in a message


_Named = Annotated[dict[str, str | None], AfterValidator(check_named)]


_Range = Annotated[tuple[Count, Count, Count, Count, Count], Field(strict=False)]
"""Rows of a unit: number of the file, row group, start, stop, first row of the file."""


class BrokenManifestError(DataError):
    """A damaged run.json."""


class _Model(BaseModel):
    """The description of the model in run.json."""

    model_config = ConfigDict(extra="allow", strict=True)

    digest: str
    feature_dim: Annotated[StrictInt, Field(ge=1)]
    n_classes: Annotated[StrictInt, Field(ge=1)]
    n_max: Annotated[StrictInt, Field(ge=1)] | None
    prior: Annotated[list[Share], Field(min_length=1)]
    classes: list[str] | None = None


class _Written(BaseModel):
    """run.json as it is stored; all of it is checked when it is read."""

    model_config = ConfigDict(strict=True)

    spec: dict[str, Any]
    keys: dict[str, Any]
    fingerprint: str
    versions: dict[str, str]
    model: _Model
    files: list[Annotated[tuple[str, Count, str, str, _Named], Field(strict=False)]]
    units: list[_Range | Annotated[list[_Range], Field(min_length=2)]]
    memory_budget: Count | None = None
    baseline: list[Annotated[float, Field(allow_inf_nan=False)]] | None = None


@dataclass(frozen=True)
class Manifest:
    """run.json.

    Attributes:
        spec: the job spec.
        keys: everything that results depend on, flat, including the model's hash.
        fingerprint: hash of the keys.
        versions: versions of the software that planned the job; informational.
        model: digest, feature size, n_max, classes and prior of the model.
        files: files of the feature table.
        units: units of the plan.
        memory_budget: bytes that the work of an actor may take, fixed when the job was planned.
        baseline: (D,) mean element of the feature table, for integrated gradients and replacements; None without them.
    """

    spec: Mapping[str, Any]
    keys: Mapping[str, Any]
    fingerprint: str
    versions: Mapping[str, str]
    model: Mapping[str, Any]
    files: tuple[InputFile, ...]
    units: tuple[Unit, ...]
    memory_budget: int | None = None
    baseline: tuple[float, ...] | None = None

    @property
    def rows(self) -> int:
        """Number of input rows of all units."""
        return sum(unit.rows for unit in self.units)

    @property
    def folders(self) -> tuple[str, ...]:
        """Folders of the job's tables; the mark's is the first."""
        return folders_of(self.spec["tables"])

    @cached_property
    def job(self) -> str:
        """Fingerprint of all that the tables depend on besides the rows, without locations (`origin.Origin`)."""
        return fingerprint({key: value for key, value in self.keys.items() if key != "features"})


def existing_manifest(output: str) -> Manifest:
    """Read the run.json of an existing output.

    Raises:
        DataError: there is none, or esv_ray did not write it.
    """
    manifest = read_manifest(output)
    if manifest is None:
        raise DataError(
            f"{output}: expected a job's output, found no run.json; check the location, and if the job ran with "
            "--partitions, give the output of one partition, OUTPUT/PARTITION"
        )
    return manifest


def read_manifest(output: str) -> Manifest | None:
    """Read the run.json of an output; return None if there is none.

    Raises:
        BrokenManifestError: it is damaged, or not that of a job.
        DataError: it is of another version, or the storage refuses.
    """
    url = storage.join(output, RUN)
    if not storage.exists(url):
        return None
    try:
        data = storage.read_bytes(url, "read the job's manifest", most=_MOST_RUN_BYTES)
    except StorageError:
        raise
    except DataError as error:  # e.g. a folder
        raise BrokenManifestError(f"{error}; `esv verify --repair {output}` moves it aside") from None
    try:
        raw = json.loads(data, parse_constant=_no_constant)
        if isinstance(raw, dict) and isinstance(raw.get("work"), str):
            raise DataError(
                f"{output}: expected the output of an attribution, found one of {raw['work']!r:.60}; a feature table "
                "that esv extract wrote is what --features takes"
            )
        if raw["format"] not in (FORMAT, FORMAT_OF_FILES):
            got = f"{raw['format']!r:.60}"
            raise DataError(
                f"{url}: expected format {FORMAT} or {FORMAT_OF_FILES}, got {got}; use the version that wrote it"
            )
        if raw["checksum"] != checksum_of(raw):
            raise ValueError("its checksum does not match its content, so it was changed after it was written")
        return _manifest_of(_Written.model_validate(raw))
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else None
        message = str(error) if first is None else f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        reason = " ".join(message.split())[:200]
        raise BrokenManifestError(
            f"{url}: expected a job's manifest, got something else ({reason}); `esv verify --repair {output}` moves it "
            "aside, then run the job again: committed units of this job are kept"
        ) from None


def checksum_of(content: Mapping[str, Any]) -> str:
    """Return the hash of a run.json without its checksum; it detects accidents, not intended changes."""
    return fingerprint({key: value for key, value in content.items() if key != "checksum"})


def _no_constant(name: str) -> None:
    raise ValueError(f"expected a number, got {name}")


def _manifest_of(written: _Written) -> Manifest:
    """Return the manifest; raise ValueError if parts disagree with each other."""
    spec = JobSpec.model_validate(written.spec)
    for key, value in job_keys(spec).items():
        if written.keys.get(key, value) != value:
            raise ValueError(f"keys.{key}: expected {value!r:.60} as in spec, got {written.keys[key]!r:.60}")
    named, expected = _columns(written.keys), _columns(job_keys(spec))  # a name that is not given has no key
    if named != expected:
        raise ValueError(f"keys.columns: expected {expected!r:.60} as in spec, got {named!r:.60}")
    if fingerprint(written.keys) != written.fingerprint:
        raise ValueError("fingerprint: not that of the keys")
    if written.keys.get("model") != written.model.digest:
        raise ValueError("model.digest: not that of the keys")
    if len(written.model.prior) != written.model.n_classes:
        raise ValueError(f"model.prior: expected {written.model.n_classes} numbers, got {len(written.model.prior)}")
    if not abs(sum(written.model.prior) - 1) <= _PRIOR_GAP:
        raise ValueError(f"model.prior: expected a sum of 1, got {sum(written.model.prior):g}")
    if written.model.classes is not None and len(written.model.classes) != len(written.model.prior):
        raise ValueError(f"model.classes: expected {len(written.model.prior)}, as in prior, got another number")
    files = tuple(
        InputFile(url, size, version, footer, tuple(sorted(named.items())), spec.columns)
        for url, size, version, footer, named in written.files
    )
    units = tuple(
        Unit(index, tuple(RowRange(files[file], *rows) for file, *rows in _ranges(unit)))
        for index, unit in enumerate(written.units)
    )
    _check_gapless(units)
    return Manifest(
        spec=spec.model_dump(mode="json"),
        keys=written.keys,
        fingerprint=written.fingerprint,
        versions=written.versions,
        model=written.model.model_dump(),
        files=files,
        units=units,
        memory_budget=written.memory_budget,
        baseline=None if written.baseline is None else tuple(written.baseline),
    )


def _ranges(unit: Any) -> Sequence[tuple[int, int, int, int, int]]:
    """Return the ranges of a unit as it is stored: a range, or a list of several."""
    return unit if isinstance(unit, list) else [unit]


def _stored(unit: Unit, number: Mapping[InputFile, int]) -> list[Any]:
    ranges = [[number[each.file], each.row_group, each.start, each.stop, each.first_row] for each in unit.ranges]
    return ranges[0] if len(ranges) == 1 else ranges


def _columns(keys: Mapping[str, object]) -> dict[str, object]:
    """Return the names of columns among the keys of a job."""
    return {key: name for key, name in keys.items() if key.startswith("columns.")}


def _check_gapless(units: Sequence[Unit]) -> None:
    """Raise ValueError unless the units of a file cover each of its rows once, in order."""
    before: RowRange | None = None
    for index, rows in ((unit.index, rows) for unit in units for rows in unit.ranges):
        if before is None or before.file != rows.file:
            follows = rows.start == rows.first_row == 0
        else:
            joined = rows.row_group == before.row_group and rows.start == before.stop
            follows = joined or (rows.row_group > before.row_group and rows.start == 0)
            follows = follows and rows.first_row == before.first_row + before.rows
        if rows.rows < 1:
            raise ValueError(f"units.{index}: expected rows, got none")
        if not follows:
            raise ValueError(f"units.{index}: expected the rows that follow those of the unit before it")
        before = rows


def commit_manifest(output: str, manifest: Manifest) -> bool:
    """Create run.json; return False if another driver was first.

    It is read back: on a store without create-only writes another driver may have replaced it (issue 15).

    Raises:
        DataError: it cannot be written, or does not exist afterwards.
    """
    number = {file: index for index, file in enumerate(manifest.files)}
    content = {
        "format": FORMAT if all(len(unit.ranges) == 1 for unit in manifest.units) else FORMAT_OF_FILES,
        "spec": manifest.spec,
        "keys": manifest.keys,
        "fingerprint": manifest.fingerprint,
        "versions": manifest.versions,
        "model": manifest.model,
        "memory_budget": manifest.memory_budget,
        "baseline": manifest.baseline,
        "files": [[file.url, file.size, file.version, file.footer, dict(file.directories)] for file in manifest.files],
        "units": [_stored(unit, number) for unit in manifest.units],
    }
    content = json.loads(json.dumps(content))  # as it is read back
    url, data = storage.join(output, RUN), _json({**content, "checksum": checksum_of(content)})
    return storage.commit_new(url, data, "write the job's manifest", check=True)


def check_same_job(manifest: Manifest, keys: Mapping[str, object], files: Sequence[InputFile], output: str) -> None:
    """Refuse to use the output of another job, or of another state of the feature table.

    Raises:
        JobError: names the keys that differ, with both values, or the files.
    """
    differ = [key for key in sorted({*manifest.keys, *keys}) if manifest.keys.get(key) != keys.get(key)]
    if differ:
        shown = "; ".join(
            f"{key}: expected {before}, got {now}"
            for key in differ
            for before, now in [_shown(manifest.keys.get(key), keys.get(key))]
        )
        raise JobError(
            f"{output} holds another job's results; {shown}. Use another output, or give the same spec to resume"
        )
    if set(manifest.files) != set(files):
        changed = sorted({file.url for file in set(manifest.files) ^ set(files)})
        raise JobError(
            f"{output}: the feature table changed since this job was planned: {_listed(changed)} "
            "(added, removed, rewritten or moved, or its rights or links changed); put it back, or use another output"
        )


def _json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()


def _shown(before: object, now: object) -> tuple[str, str]:
    """Return two different values as texts of about 60 characters that show the difference."""
    texts = json.dumps(before), json.dumps(now)
    at = next((i for i, (a, b) in enumerate(zip(*texts, strict=False)) if a != b), min(map(len, texts)))
    start = max(0, at - 20) if at >= _SHOWN - 3 else 0
    return _short(texts[0], start), _short(texts[1], start)


def _short(text: str, start: int) -> str:
    shown = ("..." if start else "") + text[start:]
    return shown if len(shown) <= _SHOWN else shown[: _SHOWN - 3] + "..."


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
