"""The output that an export reads, and the files that it writes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from esv_ray import storage
from esv_ray.analysis.sql import Opened, open_outputs
from esv_ray.errors import DataError
from esv_ray.export.request import Request
from esv_ray.output.layout import check_apart
from esv_ray.output.manifest import Manifest, existing_manifest

DOING = "write the export"
MEMORY = 10**9
"""Bytes for reading the tables by default: rows stream, and DuckDB keeps what it has read up to this."""


@dataclass(frozen=True)
class Source:
    """An output that is read.

    Attributes:
        manifest: its run.json.
        opened: the database of its tables.
    """

    manifest: Manifest
    opened: Opened

    @property
    def in_logits(self) -> bool:
        """Whether the ESVs are of logits."""
        return bool(self.manifest.spec["estimator"]["output"] == "logit")

    @property
    def names(self) -> list[str] | None:
        """Names of the classes by id, or None."""
        names: list[str] | None = self.manifest.model["classes"]
        return names


def open_source(request: Request) -> Source:
    """Open the output of a request; `Source.opened` is to be closed.

    Raises:
        DataError: there is no output, or no unit is committed yet.
    """
    return Source(
        existing_manifest(request.output), open_outputs({"": request.output}, memory=request.memory or MEMORY)
    )


def check_place(request: Request, folder: str, names: Collection[str]) -> None:
    """Check that files can be written, before anything is computed.

    Args:
        request: what is asked for.
        folder: of the files.
        names: of the files.

    Raises:
        SpecError: a location belongs to a file of the output.
        DataError: a file exists and must not be replaced, or nothing can be written there.
    """
    for name in names:
        check_apart(storage.join(folder, name), [request.output], "--output")
    storage.check_writable(folder, DOING, names)
    for name in names:
        url = storage.join(folder, name)
        if not request.overwrite and storage.is_taken(url):
            raise _taken(url)


def publish(request: Request, files: Mapping[str, Path]) -> None:
    """Write files of this machine to their locations, in this order, each whole.

    Raises:
        DataError: one exists, and is not to be replaced; or it cannot be written.
    """
    for url, file in files.items():
        if request.overwrite:
            storage.replace_from(url, file, DOING)
        elif not storage.commit_from(url, file, DOING):
            raise _taken(url)


def split(path: str) -> tuple[str, str]:
    """Return the folder and the name of a file."""
    folder, _, name = storage.absolute(path).rpartition("/")
    return folder or "/", name


def _taken(url: str) -> DataError:
    return DataError(f"{url}: expected no file there, found one; choose another --output, or replace it (--overwrite)")
