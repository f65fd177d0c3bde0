"""WebDataset shards: tar files of samples ``KEY.npy`` and ``KEY.json`` or ``KEY.cls``, read as streams.

Nothing is extracted: names of members are keys, never paths.
"""

from __future__ import annotations

import io
import json
import lzma
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple, cast

from esv_ray import storage
from esv_ray.errors import DataError, short_text
from esv_ray.input.numbers import whole_number
from esv_ray.input.sources.arrays import check_size, parse_npy
from esv_ray.input.sources.files import DOING, NamePattern, SourceFile, list_files
from esv_ray.input.sources.numpy_files import pick
from esv_ray.input.sources.records import Entry, Frames, RecordError, Source
from esv_ray.input.sources.request import ImportRequest

_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_BUFFER = 2**23  # bytes of a request to an object store
_MOST_LABEL_BYTES = 2**20
_MOST_RATIO = 10**7  # of a member to its compressed file: more than what bzip2 makes of zeros
_BROKEN = (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError, ValueError, OverflowError, RecursionError)


class _Sample(NamedTuple):
    """Adjacent members with one key.

    Attributes:
        key: their path up to the first dot of the name.
        arrays: content of ``KEY.NAME.npy`` by NAME, "npy" for ``KEY.npy``; None: not read.
        label_files: content of ``KEY.json`` and ``KEY.cls`` by suffix.
        fault: of a member that was not read, or None.
    """

    key: str
    arrays: dict[str, bytes]
    label_files: dict[str, bytes]
    fault: RecordError | None


@contextmanager
def open_tar(request: ImportRequest) -> Iterator[Source]:
    """Open a shard, or a folder or glob of shards; ids are the keys of the samples, unless --match names them.

    Raises:
        SpecError: the pattern is malformed.
        DataError: there are no shards; later, while they are read: a shard is damaged.
    """
    listing = list_files(request.source, _SUFFIXES)
    pattern = NamePattern(request.match)

    def entries() -> Iterator[Entry]:
        for file in listing.files:
            for sample in _samples(file, with_arrays=True):
                video_id = pattern.id_of(sample.key, sample.key)
                if video_id is not None:
                    yield Entry(video_id, sample.key, partial(_read, sample, request.key))

    def labels() -> Iterator[int | str]:
        """Yield the labels; if the first one is a number, so are all, and the shards are not read twice."""
        first = True
        for file in listing.files:
            for sample in _samples(file, with_arrays=False):
                label = _label_if_any(sample)
                if label is not None:
                    yield label
                    if first and isinstance(label, int):
                        return
                    first = False

    yield Source(entries, listed=False, state=listing.state, has_labels=True, labels=labels)


def _samples(file: SourceFile, *, with_arrays: bool) -> Iterator[_Sample]:
    """Yield the samples of a shard.

    Raises:
        DataError: it is damaged: nobody knows how many samples are lost.
    """
    sample: _Sample | None = None
    try:
        with (
            storage.reader(file.url, DOING, file.size) as raw,
            tarfile.open(fileobj=io.BufferedReader(cast(io.RawIOBase, raw), _BUFFER), mode="r|*") as shard,
        ):
            for member in shard:
                ratio = 1 if getattr(shard.fileobj, "comptype", "") == "tar" else _MOST_RATIO
                if member.size > file.size * ratio:  # skipping it would take forever
                    raise EOFError(f"a member claims {member.size} bytes, the file has {file.size}")
                if not member.isreg():
                    continue
                folder, slash, name = member.name.removeprefix("./").rpartition("/")
                stem, _, suffix = name.partition(".")
                key = folder + slash + stem
                if sample is None or sample.key != key:
                    if sample is not None:
                        yield sample
                    sample = _Sample(key, {}, {}, None)
                sample = _with_member(sample, shard, member, suffix.lower(), with_arrays=with_arrays)
            # A stream that ends inside a member that is skipped, or before the blocks of zeros at its end, is cut off.
            if shard.fileobj is None or shard.fileobj.tell() < shard.offset + tarfile.BLOCKSIZE:
                raise EOFError("it is cut off")
    except _BROKEN as error:
        last = "" if sample is None else f" after {sample.key!r:.80}"
        raise DataError(
            f"{file.url}: expected a tar file, got a damaged one{last} ({short_text(error, 120)}); copy it again, or "
            "move it away"
        ) from None
    if sample is not None:
        yield sample


def _with_member(
    sample: _Sample, shard: tarfile.TarFile, member: tarfile.TarInfo, suffix: str, *, with_arrays: bool
) -> _Sample:
    """Add a member to its sample, if it is an array or a label."""
    is_label = suffix in ("json", "cls")
    is_array = suffix == "npy" or suffix.endswith(".npy")
    if not is_label and not (is_array and with_arrays):
        return sample
    try:
        if member.issparse():
            raise RecordError("damaged", "a sparse member of a tar file")
        check_size(member.size)
        if is_label and member.size > _MOST_LABEL_BYTES:
            raise RecordError("damaged", f"{suffix} of {member.size} bytes")
    except RecordError as error:
        return sample._replace(fault=error)
    content = shard.extractfile(member)
    assert content is not None, "it is a regular file"
    into = sample.label_files if is_label else sample.arrays
    name = suffix.removesuffix(".npy")
    if name in into:
        return sample._replace(fault=RecordError("several arrays of one name", suffix))
    into[name] = content.read()
    return sample


def _read(sample: _Sample, key: str | None) -> Frames:
    if sample.fault is not None:
        raise sample.fault
    wanted = key.removesuffix(".npy") if key is not None else "npy" if "npy" in sample.arrays else None
    return Frames(parse_npy(sample.arrays[pick(sample.arrays, wanted)]), _label(sample))


def _label(sample: _Sample) -> int | str | None:
    """Return the label of a sample: KEY.cls, or in KEY.json the value of label or cls; None if there is none.

    Raises:
        RecordError: it is neither a whole number nor a text.
    """
    if "cls" in sample.label_files:
        text = sample.label_files["cls"].decode(errors="replace").strip()
        number = whole_number(text)
        return (text or None) if number is None else number
    if "json" not in sample.label_files:
        return None
    try:
        content: Any = json.loads(sample.label_files["json"])
    except (ValueError, RecursionError) as error:
        raise RecordError("damaged", f"json: {short_text(error, 80)}") from None
    if not isinstance(content, dict):
        return None
    label = content["label"] if "label" in content else content.get("cls")
    if isinstance(label, float) and label.is_integer():
        label = int(label)
    if label is None or label == "":
        return None
    if isinstance(label, bool) or not isinstance(label, int | str):
        raise RecordError("a label that is neither a number nor a name", repr(label)[:80])
    if isinstance(label, str) and any("\ud800" <= letter <= "\udfff" for letter in label):
        raise RecordError("a label that is not UTF-8", ascii(label)[:80])
    return label


def _label_if_any(sample: _Sample) -> int | str | None:
    try:
        return _label(sample)
    except RecordError:  # counted when the sample is read
        return None
