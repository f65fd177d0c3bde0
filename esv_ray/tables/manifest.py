"""The output of a job on storage: run.json, the committed units, _SUCCESS.

One unit commits one file to each folder (`commits`); the one in `videos` is the mark that it is done.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictInt, ValidationError

from esv_ray import storage
from esv_ray.errors import DataError, JobError
from esv_ray.tables.inputs import InputFile
from esv_ray.tables.unit_files import UnitCounts
from esv_ray.tables.units import Unit

Count = Annotated[StrictInt, Field(ge=0)]

FORMAT = 1
_RUN = "run.json"
SUCCESS = "_SUCCESS"
_MOST_RUN_BYTES = 2**30  # a plan of a million units is 60 MB, of as many files 300
_MOST_SUCCESS_BYTES = 2**16


class _Model(BaseModel):
    """What run.json says of the model."""

    model_config = ConfigDict(extra="allow")

    digest: str
    prior: list[float]
    classes: list[str] | None = None


class _Written(BaseModel):
    """run.json as it is written: what outsiders may have changed is checked when it is read."""

    model_config = ConfigDict(strict=True)

    spec: dict[str, Any]
    keys: dict[str, Any]
    fingerprint: str
    versions: dict[str, str]
    model: _Model
    files: list[Annotated[tuple[str, Count, str, str], Field(strict=False)]]
    units: list[Annotated[tuple[Count, Count, Count, Count, Count], Field(strict=False)]]
    memory_budget: Count | None = None


@dataclass(frozen=True)
class Manifest:
    """run.json.

    Attributes:
        spec: the job spec as it was given.
        keys: everything that results depend on, flat, the model's hash among them.
        fingerprint: hash of the keys.
        versions: of the software that planned the job; for people.
        model: what the bundle is: kind of numbers, n_max, classes.
        files: of the feature table.
        units: the partition plan.
        memory_budget: bytes that the work of an actor may take, as it was fixed when the job was planned.
    """

    spec: Mapping[str, Any]
    keys: Mapping[str, Any]
    fingerprint: str
    versions: Mapping[str, str]
    model: Mapping[str, Any]
    files: tuple[InputFile, ...]
    units: tuple[Unit, ...]
    memory_budget: int | None = None

    @property
    def rows(self) -> int:
        """Input rows of all units."""
        return sum(unit.rows for unit in self.units)


def attributions_url(output: str, unit: Unit) -> str:
    """Where a unit's attributions are committed."""
    return storage.join(output, "attributions", unit.name)


def videos_url(output: str, unit: Unit) -> str:
    """Where a unit's videos are committed: the mark that it is done."""
    return storage.join(output, "videos", unit.name)


def committed_names(output: str, folder: str = "videos") -> set[str]:
    """Names of the units that are done: the files in `videos`; or, of those begun, in `attributions`."""
    return set(storage.list_names(storage.join(output, folder), "list the output"))


def is_committed(output: str, unit: Unit) -> bool:
    """Whether a unit is done.

    Raises:
        DataError: the storage refuses to say.
    """
    return storage.exists(videos_url(output, unit))


def existing_manifest(output: str) -> Manifest:
    """run.json of an output that is looked at.

    Raises:
        DataError: it is not there, or not ours.
    """
    manifest = read_manifest(output)
    if manifest is None:
        raise DataError(
            f"{output}: expected a job's output, found no run.json; check the location "
            "(of a run over partitions give one of them, OUTPUT/PARTITION)"
        )
    return manifest


def read_manifest(output: str) -> Manifest | None:
    """run.json of an output, or None where there is none yet.

    Raises:
        DataError: it is there and is not ours.
    """
    where = storage.join(output, _RUN)
    if not storage.exists(where):
        return None
    data = storage.read_bytes(where, "read the job's manifest", most=_MOST_RUN_BYTES)
    try:
        raw = json.loads(data)
        if raw["format"] != FORMAT:
            raise DataError(f"{where}: expected format {FORMAT}, got {raw['format']}; use the version that wrote it")
        written = _Written.model_validate(raw)
        files = tuple(InputFile(*entry) for entry in written.files)
        units = tuple(
            Unit(index, files[file], row_group, start, stop, first_row)
            for index, (file, row_group, start, stop, first_row) in enumerate(written.units)
            if start < stop
        )
        if len(units) != len(written.units):
            raise ValueError("a unit without rows")
        if not isinstance(written.spec.get("classes"), list):
            raise ValueError("spec.classes is missing")
    except (ValueError, KeyError, TypeError, IndexError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else None
        told = str(error) if first is None else f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        what = " ".join(told.split())[:200]
        raise DataError(f"{where}: expected a job's manifest, got something else ({what})") from None
    return Manifest(
        written.spec,
        written.keys,
        written.fingerprint,
        written.versions,
        written.model.model_dump(),
        files,
        units,
        written.memory_budget,
    )


def commit_manifest(output: str, manifest: Manifest) -> bool:
    """Publish run.json; False if another driver was first."""
    number = {file: index for index, file in enumerate(manifest.files)}
    content = {
        "format": FORMAT,
        "spec": manifest.spec,
        "keys": manifest.keys,
        "fingerprint": manifest.fingerprint,
        "versions": manifest.versions,
        "model": manifest.model,
        "memory_budget": manifest.memory_budget,
        "files": [[file.url, file.size, file.version, file.footer] for file in manifest.files],
        "units": [[number[u.file], u.row_group, u.start, u.stop, u.first_row] for u in manifest.units],
    }
    return storage.commit_new(storage.join(output, _RUN), _json(content), "write the job's manifest")


def check_same_job(found: Manifest, keys: Mapping[str, object], files: Sequence[InputFile], output: str) -> None:
    """Refuse another job, or a changed feature table, over an old output.

    Raises:
        JobError: names the keys that differ, with both values, or the files.
    """
    differ = [key for key in sorted({*found.keys, *keys}) if found.keys.get(key) != keys.get(key)]
    if differ:
        shown = "; ".join(
            f"{key}: expected {_short(found.keys.get(key))}, got {_short(keys.get(key))}" for key in differ
        )
        raise JobError(
            f"{output} holds another job's results; {shown}. Use another output, or give the same spec to resume"
        )
    if set(found.files) != set(files):
        changed = sorted({file.url for file in set(found.files) ^ set(files)})
        raise JobError(
            f"{output}: the feature table changed since this job was planned: {_listed(changed)} "
            "(added, removed or rewritten); put it back, or use another output"
        )


def commit_success(output: str, counts: UnitCounts, units: int) -> None:
    """Publish _SUCCESS: every unit is committed."""
    storage.commit_new(storage.join(output, SUCCESS), _json({"units": units, **counts.asdict()}), "write _SUCCESS")


def remove_success(output: str) -> None:
    """The job is no longer finished: rows of it are about to change.

    Raises:
        DataError: the storage refuses.
    """
    storage.remove(storage.join(output, SUCCESS), "remove _SUCCESS")


def read_success(output: str) -> Mapping[str, int] | None:
    """Content of _SUCCESS, or None while units are missing.

    Raises:
        DataError: it is there and is not ours.
    """
    where = storage.join(output, SUCCESS)
    if not storage.exists(where):
        return None
    try:
        content: Mapping[str, int] = json.loads(storage.read_bytes(where, "read _SUCCESS", most=_MOST_SUCCESS_BYTES))
        return {key: int(content[key]) for key in ("units", *UnitCounts.__dataclass_fields__)}
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{where}: expected the mark of a finished job, got something else") from None


def _json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
