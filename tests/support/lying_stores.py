"""Stores that answer every request and lie: file systems of fsspec in the memory of this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import fsspec
from fsspec.implementations.memory import MemoryFileSystem


class _Lying(MemoryFileSystem):  # type: ignore[misc]
    """Objects of its own, by a protocol of its own."""

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        stripped: str = super()._strip_protocol(str(path).removeprefix(f"{cls.protocol}://"))
        return stripped


class LateListing(_Lying):
    """Lists a folder of tables as it was at the start: empty. Single objects are found by their names."""

    protocol = "late"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]

    def ls(self, path: str, detail: bool = True, **options: Any) -> Any:
        entries = super().ls(path, detail=True, **options)
        kept = [entry for entry in entries if "/part-" not in entry["name"]]
        return kept if detail else [entry["name"] for entry in kept]


class LosesWrites(_Lying):
    """Takes every write, and keeps two of three parts of tables."""

    protocol = "loses"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    puts: ClassVar[int] = 0

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **options: Any) -> None:
        if "/part-" in path:
            LosesWrites.puts += 1
            if LosesWrites.puts % 3 == 0:
                return
        super().pipe_file(path, value, mode=mode, **options)


class LosesMarks(_Lying):
    """Takes every write and keeps none of _SUCCESS."""

    protocol = "unmarked"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **options: Any) -> None:
        if not path.endswith("/_SUCCESS"):
            super().pipe_file(path, value, mode=mode, **options)


class Unconditional(_Lying):
    """Takes the condition of a create-only write and ignores it: the last writer wins."""

    protocol = "unconditional"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **options: Any) -> None:
        super().pipe_file(path, value, mode="overwrite", **options)


@contextmanager
def lying_stores() -> Iterator[None]:
    """Register them, without objects."""
    for store in (LateListing, LosesWrites, LosesMarks, Unconditional):
        store.store.clear()
        store.pseudo_dirs[:] = [""]
        fsspec.register_implementation(store.protocol, store, clobber=True)
    LosesWrites.puts = 0
    yield
