"""WebDataset shards: tar files of samples ``KEY.npy`` and ``KEY.json`` or ``KEY.cls``, read as streams.

Nothing is extracted: names of members are keys, never paths.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple, Self, cast

from esv_ray import storage
from esv_ray.errors import DataError
from esv_ray.input.faults import RecordError
from esv_ray.input.numbers import whole_number
from esv_ray.input.sources.arrays import check_size, parse_npy
from esv_ray.input.sources.damage import parsing
from esv_ray.input.sources.files import DOING, NamePattern, SourceFile, list_files
from esv_ray.input.sources.numpy_files import pick
from esv_ray.input.sources.records import Entry, Frames, Source
from esv_ray.input.sources.request import ImportRequest

_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_BUFFER = 2**23  # bytes of a request to an object store
_MOST_LABEL_BYTES = 2**20
_SKIPPED = 2**20  # bytes that are skipped at a time


class _Sample(NamedTuple):
    """Adjacent members with one key.

    Attributes:
        key: their path up to the first dot of the name.
        arrays: content of ``KEY.NAME.npy`` by NAME, "npy" for ``KEY.npy``; None: not read.
        label_files: content of ``KEY.json`` and ``KEY.cls`` by suffix.
        fault: of a member that was not read, or None.
        dotted: NAME of ``KEY.NAME.json`` and ``KEY.NAME.cls``, which are no labels.
    """

    key: str
    arrays: dict[str, bytes]
    label_files: dict[str, bytes]
    fault: RecordError | None
    dotted: set[str]


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
        for shard, member in _members(file):
            folder, slash, name = member.name.removeprefix("./").rpartition("/")
            stem, _, suffix = name.partition(".")
            key = folder + slash + stem
            if sample is None or sample.key != key:
                if sample is not None:
                    yield sample
                sample = _Sample(key, {}, {}, None, set())
            sample = _with_member(sample, shard, member, suffix.lower(), with_arrays=with_arrays)
    except RecordError as error:
        last = "" if sample is None else f" after {ascii(sample.key)[:80]}"
        raise DataError(
            f"{file.url}: expected a tar file, got a damaged one{last} ({error.detail}); copy it again, or move it away"
        ) from None
    if sample is not None:
        yield sample


class _Header(tarfile.TarInfo):
    """The header of a member; one with a wrong checksum, which tarfile takes for the end of the file, is a fault."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Parse a header.

        Raises:
            tarfile.HeaderError: the file ends here.
            RecordError: it is damaged.
        """
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if len(buf) == tarfile.BLOCKSIZE and any(buf):
                raise RecordError("damaged", str(error)) from None
            raise


def _members(file: SourceFile) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """Yield the regular files of a shard, in order, with the stream to read each from before the next.

    Raises:
        RecordError: the shard is damaged.
    """
    with ExitStack() as stack:
        raw = stack.enter_context(storage.reader(file.url, DOING, file.size))
        buffered = io.BufferedReader(cast(io.RawIOBase, raw), _BUFFER)
        with parsing(""):
            shard = stack.enter_context(tarfile.open(fileobj=buffered, mode="r|*", tarinfo=_Header))
        while True:
            with parsing(""):
                member = shard.next()
            if member is None:
                break
            if member.isreg():
                yield shard, member
            with parsing(""):
                _skip_to(shard, shard.offset)
        # A stream that ends before the blocks of zeros at its end is cut off.
        if shard.fileobj is None or shard.fileobj.tell() < shard.offset + tarfile.BLOCKSIZE:
            raise RecordError("damaged", "it is cut off")


def _skip_to(shard: tarfile.TarFile, offset: int) -> None:
    """Read on to an offset of a stream: tarfile would do so beyond the end, to the 10**18 bytes that a header claims.

    Raises:
        RecordError: the stream ends before.
    """
    stream = shard.fileobj
    assert stream is not None
    while (missing := offset - stream.tell()) > 0:
        if not stream.read(min(missing, _SKIPPED)):
            raise RecordError("damaged", f"it is cut off {missing} bytes before the end of a member")


def _with_member(
    sample: _Sample, shard: tarfile.TarFile, member: tarfile.TarInfo, suffix: str, *, with_arrays: bool
) -> _Sample:
    """Add a member to its sample, if it is an array or a label."""
    is_label = suffix in ("json", "cls")
    is_array = suffix == "npy" or suffix.endswith(".npy")
    if suffix.endswith((".json", ".cls")):
        sample.dotted.add(suffix.rpartition(".")[0])
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
    into = sample.label_files if is_label else sample.arrays
    name = suffix.removesuffix(".npy")
    if name in into:
        return sample._replace(fault=RecordError("several arrays of one name", suffix))
    with parsing(""):
        content = shard.extractfile(member)
        assert content is not None, "it is a regular file"
        into[name] = content.read()
    return sample


def _read(sample: _Sample, key: str | None) -> Frames:
    if sample.fault is not None:
        raise sample.fault
    if not sample.label_files and sample.dotted & sample.arrays.keys():
        raise RecordError("a name with dots: the key of a sample ends at the first one", sample.key)
    wanted = key.removesuffix(".npy") if key is not None else "npy" if "npy" in sample.arrays else None
    return Frames(parse_npy(sample.arrays[pick(sample.arrays, wanted)]), _label(sample))


def _label(sample: _Sample) -> int | str | None:
    """Return the label of a sample: KEY.cls, or in KEY.json the value of label or cls; None if there is none.

    Raises:
        RecordError: it is neither a whole number nor a text.
    """
    if "cls" in sample.label_files:
        with parsing("", reason="a label that is not UTF-8"):
            text = sample.label_files["cls"].decode().strip()
        number = whole_number(text)
        return (text or None) if number is None else number
    if "json" not in sample.label_files:
        return None
    with parsing("JSON"):
        content: Any = json.loads(sample.label_files["json"])
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
