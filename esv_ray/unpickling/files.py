"""Read the files that torch.save and pickle.dump write.

torch.save writes a zip archive, since 1.6: the pickle ``data.pkl``, and a member for each storage. Before, it wrote
pickles one after another (a number, the version, the machine, the object, the names of its storages), then the
storages, each with its count of numbers. In both, a storage in the pickle is a persistent id.
"""

from __future__ import annotations

import codecs
import io
import lzma
import struct
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from esv_ray.unpickling.builders import BUILDERS, Builder, build
from esv_ray.unpickling.inert import Inert
from esv_ray.unpickling.instructions import read_pickle
from esv_ray.unpickling.limits import Budget
from esv_ray.unpickling.machine import Build, PersistentLoad
from esv_ray.unpickling.tensors import Storage, storage_type

_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C  # of torch.save before 1.6
_VERSION = 1001
_MOST_NESTED = 4  # files in files
_LOCAL_HEADER = 30  # bytes of the header of a member of an archive, without its name
_SHOWN = 200  # characters of an error of another library
_DAMAGED = (
    *(ValueError, IndexError, KeyError, TypeError, OverflowError, AssertionError, RuntimeError, NotImplementedError),
    *(AttributeError, MemoryError, struct.error, zipfile.BadZipFile, zlib.error, lzma.LZMAError),
)


def unpickle(data: bytes) -> object:
    """Return the object of a file of torch.save, in any of its formats, or of pickle.dump, in any protocol.

    Tensors (on the CPU), NumPy arrays and scalars, numbers, texts, bytes and containers are built. Every other object
    is an `Inert`: no name in the file is imported or called, whatever it says.

    Args:
        data: content of the file.

    Raises:
        ValueError: it is no such file, it is damaged, or it claims more numbers than it holds. The message, a line,
            says what was got: "one that is cut short".
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of kinds of tensors that are deprecated or new
        return _unpickled(data, Budget(len(data)), 0)


def _unpickled(data: bytes, budget: Budget, depth: int) -> object:
    if depth > _MOST_NESTED:
        raise ValueError("one of files in files without end")
    builders = {**BUILDERS, "torch.storage._load_from_bytes": _nested(depth)}

    def make(function: object, arguments: tuple[object, ...], budget: Budget) -> object:
        return build(function, arguments, budget, builders)

    try:
        return _archive(data, budget, make) if data.startswith(b"PK") else _pickles(data, budget, make)
    except EOFError:
        raise ValueError("one that is cut short") from None
    except _DAMAGED as error:
        text = " ".join(str(error).split())[:_SHOWN]
        if isinstance(error, ValueError) and text.startswith("one "):
            raise ValueError(text) from None
        of_reader = isinstance(error, LookupError | TypeError | AttributeError)  # they tell of it, not of the file
        told = text and not of_reader
        raise ValueError(f"one that is damaged ({text})" if told else "one that is damaged") from None


def _nested(depth: int) -> Builder:
    """Return the builder of storages in plain pickles, which hold files of their own."""

    def nested(arguments: tuple[object, ...], budget: Budget) -> object:
        if len(arguments) != 1 or not isinstance(arguments[0], bytes | bytearray):
            return None
        budget.spend(len(arguments[0]))
        return _unpickled(bytes(arguments[0]), budget, depth + 1)

    return nested


@dataclass
class _Storages:
    """The storages of a file by their names.

    Attributes:
        members: their bytes.
        budget: of the file.
        swapped: whether the byte order is not this machine's.
        read: those that have been read.
    """

    members: Mapping[str, memoryview]
    budget: Budget
    swapped: bool = False
    read: dict[str, Tensor] = field(default_factory=dict)

    def load(self, identifier: object) -> object:
        """Return the storage of a persistent id; of a class with its source code, which old files have, the class.

        Raises:
            ValueError: there is no such storage, or it has fewer bytes.
        """
        if isinstance(identifier, tuple) and identifier[:1] == ("module",) and len(identifier) == 4:
            return identifier[1]
        kind, key, count, view = _storage_id(identifier)
        raw = self._raw(key)
        stop = count * kind.itemsize
        if stop > len(raw):
            raise ValueError(f"one with a storage of {len(raw)} bytes, but {count} numbers of {kind.itemsize} bytes")
        start = 0
        if view is not None:
            start, stop = (edge * kind.itemsize for edge in view)
            if not 0 <= start <= stop <= count * kind.itemsize:
                raise ValueError("one with a part of a storage outside of it")
        return Storage(raw[start:stop], kind, self.swapped)

    def _raw(self, key: str) -> Tensor:
        if key not in self.read:
            if key not in self.members:
                raise ValueError(f"one without its storage {key!r:.60}")
            member = self.members[key]
            self.budget.spend(len(member))
            self.read[key] = torch.frombuffer(bytearray(member), dtype=torch.uint8) if len(member) else _NOTHING
        return self.read[key]


codecs.lookup("cp437")  # for zipfile: nothing is imported while a file is read
_NOTHING = torch.empty(0, dtype=torch.uint8)


def _storage_id(identifier: object) -> tuple[torch.dtype, str, int, tuple[int, int] | None]:
    """Return the type, the name and the count of numbers of a storage, and the part of it that is meant."""
    fields = identifier if isinstance(identifier, tuple) else ()
    if len(fields) not in (5, 6) or fields[0] != "storage" or not isinstance(fields[2], str | int):
        raise ValueError("one with a persistent id of something else than a storage")
    count = fields[4]
    if not isinstance(count, int) or count < 0:
        raise ValueError("one with a storage without a size")
    view = fields[5] if len(fields) == 6 else None
    if view is None:
        return storage_type(fields[1]), str(fields[2]), count, None
    if not isinstance(view, tuple) or len(view) != 3 or not all(isinstance(each, int) for each in view[1:]):
        raise ValueError("one with a part of a storage without a size")
    return storage_type(fields[1]), str(fields[2]), count, (view[1], view[1] + view[2])


def _archive(data: bytes, budget: Budget, make: Build) -> object:
    """Read a zip archive. Names of members are compared, and never opened as files."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        infos = archive.infolist()
    members = {info.filename: info for info in infos}
    if len(members) != len(infos):
        raise ValueError("one that is damaged (an archive with two members of one name)")
    pickles = [name for name in members if name.rpartition("/")[2] == "data.pkl"]
    if len(pickles) != 1:
        raise ValueError(f"one that is damaged (an archive of {len(pickles)} files data.pkl)")
    root = pickles[0].removesuffix("data.pkl")
    content = bytes(_member(data, members[pickles[0]]))
    start = f"{root}data/"
    storages = {
        name.removeprefix(start): _member(data, info) for name, info in members.items() if name.startswith(start)
    }
    order = bytes(_member(data, members[f"{root}byteorder"])) if f"{root}byteorder" in members else b"little"
    persistent = _Storages(storages, budget, swapped=order.strip() == b"big").load
    return read_pickle(content, 0, persistent, budget, make)[0]


def _member(data: bytes, info: zipfile.ZipInfo) -> memoryview:
    """Return the bytes of a member, which torch never compresses, without a copy."""
    start = info.header_offset
    header = data[start : start + _LOCAL_HEADER]
    if info.compress_type != zipfile.ZIP_STORED or not header.startswith(b"PK\x03\x04") or len(header) < _LOCAL_HEADER:
        raise ValueError("one that is damaged (an archive with compressed or missing members)")
    name_size, extra_size = struct.unpack("<HH", header[26:30])
    start += _LOCAL_HEADER + name_size + extra_size
    if start + info.file_size > len(data):
        raise EOFError
    return memoryview(data)[start : start + info.file_size]


def _pickles(data: bytes, budget: Budget, make: Build) -> object:
    """Read a plain pickle, or pickles followed by storages."""
    first, position = read_pickle(data, 0, _none, budget, make)
    if not isinstance(first, int) or first != _MAGIC_NUMBER:
        return first
    version, position = read_pickle(data, position, _none, budget, make)
    if not isinstance(version, int) or version != _VERSION:
        raise ValueError("one of a version of torch that is not known")
    _, position = read_pickle(data, position, _none, budget, make)  # the machine; numbers are little-endian
    # Storages come after the object that needs them: a first reading finds its end, and the types of the storages.
    sizes: dict[str, int] = {}
    _, end = read_pickle(data, position, _sizes(sizes), budget, _inert)
    storages = _storages_after(data, end, sizes, budget)
    return read_pickle(data, position, _Storages(storages, budget).load, budget, make)[0]


def _storages_after(data: bytes, position: int, sizes: Mapping[str, int], budget: Budget) -> dict[str, memoryview]:
    """Return the storages after the pickles of an old file.

    Args:
        data: the file.
        position: of the pickle with their names.
        sizes: bytes of a number, by name.
        budget: of the file.
    """
    keys, position = read_pickle(data, position, _none, budget, _inert)
    storages = {}
    for key in keys if isinstance(keys, list) else ():
        if str(key) not in sizes:
            raise ValueError("one with a storage of no tensor")
        count = int.from_bytes(data[position : position + 8], "little", signed=True)
        position, start = position + 8 + count * sizes[str(key)], position + 8
        if count < 0:
            raise ValueError("one with a storage without a size")
        if position > len(data):
            raise EOFError
        storages[str(key)] = memoryview(data)[start:position]
    return storages


def _sizes(sizes: dict[str, int]) -> PersistentLoad:
    """Return a function that notes the bytes of a number of every storage, by its name."""

    def note(identifier: object) -> object:
        if isinstance(identifier, tuple) and identifier[:1] == ("module",):
            return None
        kind, key, _, _ = _storage_id(identifier)
        sizes[key] = kind.itemsize
        return None

    return note


def _inert(function: object, arguments: tuple[object, ...], budget: Budget) -> object:
    return Inert("", arguments)


def _none(identifier: object) -> object:
    raise ValueError("one with persistent ids, whose objects are in another place")
