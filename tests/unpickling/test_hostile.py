"""Pickles that try to run code, to reach files, or to take all memory or time: nothing happens."""

from __future__ import annotations

import copy
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from esv_ray.unpickling import Inert, unpickle
from tests.conftest import FILES
from tests.unpickling.test_values import saved

Bytes = Callable[[str], bytes]


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def short(value: str) -> bytes:
    return b"\x8c" + bytes([len(value.encode())]) + value.encode()


class Calls:
    """Unpickled by pickle, it calls a function."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.function, self.arguments


def reduced(function: Callable[..., object], *arguments: object, protocol: int = 2) -> bytes:
    return pickle.dumps(Calls(function, *arguments), protocol=protocol)


def in_archive(content: bytes, names: dict[str, bytes] | None = None) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("a/data.pkl", content)
        for name, data in (names or {}).items():
            archive.writestr(name, data)
    return sink.getvalue()


def storage_id(key: bytes, count: int = 1, kind: bytes = b"ctorch\nFloatStorage\n") -> bytes:
    return b"(" + text("storage") + kind + key + text("cpu") + b"J" + struct.pack("<i", count) + b"tQ"


def tensor(key: bytes, size: bytes, stride: bytes, offset: bytes = b"K\x00", count: int = 1) -> bytes:
    call = b"ctorch._utils\n_rebuild_tensor_v2\n("
    return b"\x80\x02" + call + storage_id(key, count) + offset + size + stride + b"\x89N" + b"tR."


# Each makes the folder that it is given, if pickle or torch loads it without care.
RUNNING: dict[str, Bytes] = {
    "reduce": lambda path: reduced(os.mkdir, path),
    "reduce of os.system": lambda path: reduced(os.system, f"mkdir '{path}'"),
    "reduce of eval": lambda path: reduced(eval, f"__import__('os').mkdir({path!r})"),
    "reduce of exec": lambda path: reduced(exec, f"import os; os.mkdir({path!r})", protocol=4),
    "reduce of a chain": lambda path: (
        (b"\x80\x04" + b"cbuiltins\ngetattr\n(cbuiltins\n__import__\n(" + text("os") + b"tR" + text("mkdir") + b"tR(")
        + text(path)
        + b"tR."
    ),
    "reduce of a name in a name": lambda path: (
        b"\x80\x04" + short("pathlib") + short("os.mkdir") + b"\x93(" + text(path) + b"tR."
    ),
    "reduce of a subprocess": lambda path: reduced(subprocess.check_call, ["mkdir", path]),
    "protocol 0": lambda path: f"cposix\nmkdir\n(V{path}\ntR.".encode(),
    "instance": lambda path: b"(" + text(path) + b"iposix\nmkdir\n.",
    "object": lambda path: b"(cposix\nmkdir\n" + text(path) + b"o.",
    "new": lambda path: b"\x80\x02csubprocess\nPopen\n((" + text("mkdir") + text(path) + b"lt\x81.",
    "new with keywords": lambda path: (
        b"\x80\x04csubprocess\nPopen\n)}" + text("args") + b"(" + text("mkdir") + text(path) + b"ls\x92."
    ),
    "build": lambda path: b"\x80\x02cbuiltins\nexec\n" + text(f"import os; os.mkdir({path!r})") + b"\x85R.",
    "build of a method": lambda path: (
        # An instance whose __setstate__ is replaced, and then called.
        b"\x80\x02cargparse\nNamespace\n)\x81}" + text("__setstate__") + b"cposix\nmkdir\nsb" + text(path) + b"b."
    ),
    "build with slots": lambda path: (
        b"\x80\x02cargparse\nNamespace\n)\x81N}" + text("__setstate__") + b"cposix\nmkdir\ns\x86b" + text(path) + b"b."
    ),
    "memo": lambda path: b"\x80\x02cposix\nmkdir\nq\x070" + text(path) + b"q\x080h\x07h\x08\x85R.",
    "computed name": lambda path: (
        b"\x80\x04" + text("posix") + b"\x94" + text("mkdir") + b"\x94\x93" + text(path) + b"\x85R."
    ),
    "a name in the place of a list": lambda path: b"cos\nsystem\n" + text(f"mkdir '{path}'") + b"\x85R(e.",
    "appended": lambda path: b"\x80\x02]" + reduced(os.mkdir, path)[2:-1] + b"a.",
    "as a key": lambda path: b"\x80\x02}" + reduced(os.mkdir, path)[2:-1] + b"Ns.",
    "popped": lambda path: b"\x80\x02" + reduced(os.mkdir, path)[2:-1] + b"0N.",
    "an ordered dictionary": lambda path: (
        b"\x80\x02ccollections\nOrderedDict\n(" + reduced(os.mkdir, path)[2:-1] + b"tR."
    ),
    "a default": lambda path: (
        b"\x80\x02ccollections\ndefaultdict\n(cposix\nmkdir\ntR0" + b"cposix\nmkdir\n" + text(path) + b"\x85R."
    ),
    "checkpoint": lambda path: saved({"model": {"a": torch.ones(2)}, "x": Calls(os.mkdir, path)}),
    "old checkpoint": lambda path: saved({"a": torch.ones(2), "x": Calls(os.mkdir, path)}, archive=False),
    "in the machine of an old checkpoint": lambda path: saved([1], archive=False).replace(
        pickle.dumps(1001, protocol=2), reduced(os.mkdir, path), 1
    ),
    "in the storage of a plain pickle": lambda path: (
        b"\x80\x02ctorch.storage\n_load_from_bytes\n(" + _bytes(saved(Calls(os.mkdir, path), archive=False)) + b"tR."
    ),
    "pickle in a pickle": lambda path: reduced(pickle.loads, reduced(os.mkdir, path), protocol=4),
    "a file in a pickle": lambda path: (
        b"\x80\x04c_pickle\nload\n(cio\nBytesIO\n(" + _bytes(reduced(os.mkdir, path)) + b"tRtR."
    ),
    "array of objects": lambda path: pickle.dumps(np.array([Calls(os.mkdir, path)], dtype=object)),
    "arguments of a tensor": lambda path: (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n("
        + reduced(os.mkdir, path)[2:-1]
        + b"K\x00K\x01\x85K\x01\x85\x89NtR."
    ),
    "class of a tensor": lambda path: (
        b"\x80\x02ctorch._tensor\n_rebuild_from_type_v2\n(cposix\nmkdir\ncposix\nmkdir\n" + text(path) + b"\x85}tR."
    ),
    "hooks of a parameter": lambda path: (
        b"\x80\x02ctorch._utils\n_rebuild_parameter\n(N\x89" + reduced(os.mkdir, path)[2:-1] + b"tR."
    ),
    "layout of a tensor": lambda path: (
        b"\x80\x02ctorch._utils\n_rebuild_sparse_tensor\n(" + reduced(os.mkdir, path)[2:-1] + b"NtR."
    ),
    "type of an array": lambda path: b"\x80\x02cnumpy\ndtype\n(" + reduced(os.mkdir, path)[2:-1] + b"K\x00K\x01tR.",
    "class of an array": lambda path: (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n(" + reduced(os.mkdir, path)[2:-1] + b"K\x00\x85C\x01btR."
    ),
    "type of a storage": lambda path: in_archive(
        tensor(text("0"), b"K\x01\x85", b"K\x01\x85").replace(b"ctorch\nFloatStorage\n", reduced(os.mkdir, path)[2:-1]),
        {"a/data/0": bytes(4)},
    ),
}


def _bytes(data: bytes) -> bytes:
    return b"B" + struct.pack("<I", len(data)) + data


# Each is refused or inert as it is; some would only be harmful to a reader that believes them.
OTHERS: dict[str, Bytes] = {
    "extension of one byte": lambda path: b"\x80\x02\x82\x01)R.",
    "extension of two bytes": lambda path: b"\x80\x02\x83\x01\x02)R.",
    "extension of four bytes": lambda path: b"\x80\x02\x84\x01\x02\x03\x04)R.",
    "persistent id of protocol 0": lambda path: f"P{path}\n.".encode(),
    "persistent id": lambda path: text(path) + b"Q.",
    "persistent id of another kind": lambda path: in_archive(b"(" + text("file") + text(path) + b"tQ."),
    "persistent id of a name": lambda path: in_archive(b"cposix\nmkdir\nQ."),
    "storage above the archive": lambda path: in_archive(
        tensor(text("../../x"), b"K\x01\x85", b"K\x01\x85"), {"a/data/../../x": bytes(4), "../../x": bytes(4)}
    ),
    "storage of an absolute name": lambda path: in_archive(
        tensor(text("/etc/passwd"), b"K\x01\x85", b"K\x01\x85"), {"/etc/passwd": bytes(4)}
    ),
    "pickle above the archive": lambda path: _renamed("a/data.pkl", "../data.pkl"),
    "pickle of an absolute name": lambda path: _renamed("a/data.pkl", "/tmp/data.pkl"),
    "pickle of a drive": lambda path: _renamed("a/data.pkl", "C:\\a/data.pkl"),
    "two pickles": lambda path: in_archive(b"N.", {"../data.pkl": b"N."}),
    "a member that claims a terabyte": lambda path: _claimed(2**40),
    "a member that claims 2**64 - 1 bytes": lambda path: _claimed(2**64 - 1),
    "a member before the file": lambda path: _moved(-1),
    "a member in the directory": lambda path: _moved(40),
    "members that overlap": lambda path: _overlapping(2000),
    "storage that is a file": lambda path: in_archive(tensor(text(str(FILES / "tsn.pth")), b"K\x01\x85", b"K\x01\x85")),
    "storage of a list": lambda path: in_archive(tensor(b"]", b"K\x01\x85", b"K\x01\x85"), {"a/data/0": bytes(4)}),
    "storage beyond the file": lambda path: in_archive(
        tensor(text("0"), b"J\0\0\0\x7f\x85", b"K\x01\x85", count=0x7F000000), {"a/data/0": bytes(4)}
    ),
    "tensor beyond its storage": lambda path: in_archive(
        tensor(text("0"), b"K\x02\x85", b"K\x01\x85"), {"a/data/0": bytes(4)}
    ),
    "tensor before its storage": lambda path: in_archive(
        tensor(text("0"), b"K\x01\x85", b"K\x01\x85", offset=b"J\xff\xff\xff\xff"), {"a/data/0": bytes(4)}
    ),
    "negative strides": lambda path: in_archive(
        tensor(text("0"), b"K\x02\x85", b"J\xff\xff\xff\xff\x85"), {"a/data/0": bytes(4)}
    ),
    "expanded beyond the file": lambda path: in_archive(
        tensor(text("0"), b"J\0\0\0\x7f\x85", b"K\x00\x85"), {"a/data/0": bytes(4)}
    ),
    "sizes that overflow": lambda path: in_archive(
        tensor(text("0"), b"\x8a\x08" + b"\xff" * 7 + b"\x3f" + b"\x85", b"\x8a\x08" + b"\xff" * 7 + b"\x3f" + b"\x85"),
        {"a/data/0": bytes(4)},
    ),
    "array beyond its bytes": lambda path: (
        b"\x80\x03cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85C\x01btR(K\x01J\0\0\0\x7f\x85"
        b"cnumpy\ndtype\n(U\x02f8K\x00K\x01tR\x89C\x08" + bytes(8) + b"tb."
    ),
    "scalar of an object": lambda path: (
        b"\x80\x03cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(U\x02O8K\x00K\x01tRcposix\nmkdir\ntR."
    ),
    "type of fields": lambda path: pickle.dumps(np.zeros(2, dtype=[("a", "f4"), ("b", "O")])),
    "another pickle above the archive": lambda path: in_archive(b"N.", {"../data.pkl": b"N."}),
    "another pickle of an absolute name": lambda path: in_archive(b"N.", {"/tmp/data.pkl": b"N."}),
    "members above the archive": lambda path: in_archive(
        tensor(text("0"), b"K\x01\x85", b"K\x01\x85"),
        {"a/data/0": bytes(4), "../../etc/cron.d/x": b"x", "/etc/x": b"x", "a/..\\..\\x": b"x"},
    ),
    "a huge member": lambda path: _claims(2**32 - 2),
    "a member of no bytes": lambda path: _claims(0),
    "a persistent id in a persistent id": lambda path: in_archive(b"(" + text("storage") + b"NQ" + text("0") + b"tQ."),
    "a storage of 2**62 numbers": lambda path: in_archive(
        (b"\x80\x02(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu"))
        + (b"\x8a\x08" + struct.pack("<q", 2**62) + b"tQ."),
        {"a/data/0": bytes(4)},
    ),
    "two members of one name": lambda path: _twice(),
    "compressed": lambda path: _compressed(),
    "numbers of thousands of digits": lambda path: b"L" + b"9" * 100_000 + b"L\n.",
    "a text beyond the file": lambda path: b"\x8d" + struct.pack("<Q", 2**62) + b"x.",
    "bytes beyond the file": lambda path: b"\x8e" + struct.pack("<Q", 2**63) + b"x.",
    "a buffer elsewhere": lambda path: b"\x80\x05\x97.",
    "no mark": lambda path: b"t.",
    "no value": lambda path: b".",
    "no memo": lambda path: b"h\x05.",
    "a list that holds itself": lambda path: b"]q\x00h\x00a.",
    "an inert object that holds itself": lambda path: b"ca\nb\n)Rq\x00h\x00ah\x00h\x00bh\x00h\x00h\x00s.",
    "a dictionary in a dictionary's key": lambda path: b"}}Ns.",
    "a tuple of shared tuples as a key": lambda path: b"}N" + b"2\x86" * 200 + b"Ns.",
    "a number of thousands of digits as a key": lambda path: b"}\x8b\xff\x0f\0\0" + b"\x7f" * 4095 + b"Ns.",
    "a shared set as a key": lambda path: b"\x80\x04}(\x91" + b"2\x86" * 200 + b"Ns.",
    "nested lists": lambda path: b"]" * 200_000 + b"a" * 199_999 + b".",
    "nested tuples": lambda path: b"N" + b"\x85" * 200_000 + b".",
    "nested files": lambda path: _nested(20),
    "copies of a list": lambda path: (
        b"\x80\x02(" + b"N" * 20_000 + b"lq\x000ccollections\ndeque\nq\x01]" + b"h\x01h\x00\x85Ra" * 10_000 + b"."
    ),
    "copies of a text": lambda path: (
        b"\x80\x02"
        + text("x" * 20_000)
        + b"q\x00"
        + text("latin1")
        + b"q\x010c_codecs\nencode\nq\x02]"
        + b"h\x02h\x00h\x01\x86Ra" * 10_000
        + b"."
    ),
    "copies of a storage": lambda path: (
        b"\x80\x03"
        + _bytes(saved(torch.ones(20_000).untyped_storage(), archive=False))
        + b"q\x000ctorch.storage\n_load_from_bytes\nq\x01]"
        + b"h\x01h\x00\x85Ra" * 1000
        + b"."
    ),
}


def _claims(size: int) -> bytes:
    """An archive whose directory gives its storage of four bytes another size."""
    data = bytearray(in_archive(tensor(text("0"), b"K\x01\x85", b"K\x01\x85"), {"a/data/0": bytes(4)}))
    entry = data.rindex(b"PK\x01\x02")
    data[entry + 20 : entry + 28] = struct.pack("<II", size, size)
    return bytes(data)


def _twice() -> bytes:
    data = bytearray(in_archive(b"N.", {"a/data.pkm": b"N."}))
    return bytes(data.replace(b"a/data.pkm", b"a/data.pkl"))


def _renamed(name: str, other: str) -> bytes:
    """An archive of a tensor, whose pickle has another name."""
    sink = io.BytesIO()
    root = other.rpartition("/")[0]
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr(other, tensor(text("0"), b"K\x01\x85", b"K\x01\x85"))
        archive.writestr(f"{root}/data/0", bytes(4))
    return sink.getvalue()


def _claimed(size: int) -> bytes:
    """An archive whose storage claims so many bytes, as a zip64 archive can."""
    data = in_archive(tensor(text("0"), b"K\x01\x85", b"K\x01\x85"), {"a/data/0": bytes(4)})
    start = data.rindex(b"PK\x01\x02")
    entry = bytearray(data[start : data.rindex(b"PK\x05\x06")])
    entry[20:28] = b"\xff" * 8  # both sizes are in the extra field
    extra = struct.pack("<HHQQ", 1, 16, size, size)
    entry[30:32] = struct.pack("<H", len(extra))
    end = bytearray(data[data.rindex(b"PK\x05\x06") :])
    end[12:16] = struct.pack("<I", struct.unpack("<I", end[12:16])[0] + len(extra))
    return data[:start] + bytes(entry) + extra + bytes(end)


def _moved(offset: int) -> bytes:
    """An archive whose storage is said to be elsewhere."""
    data = bytearray(in_archive(tensor(text("0"), b"K\x01\x85", b"K\x01\x85"), {"a/data/0": bytes(4)}))
    start = data.rindex(b"PK\x01\x02")
    data[start + 42 : start + 46] = struct.pack("<I", offset % 2**32)
    return bytes(data)


def _overlapping(count: int) -> bytes:
    """An archive of so many storages, all of which are the same bytes, and a list of them all."""
    size = 100_000
    parts = [
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + storage_id(text(str(i)), size // 4)
        + b"K\x00K\x01\x85K\x01\x85\x89NtR"
        for i in range(count)
    ]
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02(" + b"".join(parts) + b"l.")
        archive.writestr("a/data/0", bytes(size))
        for i in range(1, count):
            info = copy.copy(archive.getinfo("a/data/0"))
            info.filename = f"a/data/{i}"
            archive.filelist.append(info)
    return sink.getvalue()


def _compressed() -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"N" * 10**7 + b".")
    return sink.getvalue()


def _nested(depth: int) -> bytes:
    data = b"N."
    for _ in range(depth):
        data = b"\x80\x03ctorch.storage\n_load_from_bytes\n" + _bytes(data) + b"\x85R."
    return data


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What an audit hook saw of each hostile file, by its name."""
    folder = tmp_path_factory.mktemp("hostile")
    names = {}
    for name, make in {**RUNNING, **OTHERS}.items():
        path = folder / name.replace(" ", "-")
        path.write_bytes(make(str(folder / f"made-by-{path.name}")))
        names[str(path)] = name
    command = [sys.executable, "-m", "tests.unpickling.audited", *names]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    assert not list(folder.glob("made-by-*")), "code of a pickle ran"
    return {names[path]: result for path, result in json.loads(done.stdout).items()}


@pytest.mark.parametrize("name", [*RUNNING, *OTHERS])
def test_nothing_runs(audited: dict[str, Any], name: str) -> None:
    """The interpreter reports no import, no name that is looked up, no code, no process and no file."""
    assert audited[name]["events"] == []
    assert audited[name]["modules"] == []


@pytest.mark.parametrize("name", RUNNING)
@pytest.mark.filterwarnings("ignore")
def test_it_would_run_elsewhere(tmp_path: Path, name: str) -> None:
    """Otherwise the tests above prove nothing."""
    target = tmp_path / "made"
    data = RUNNING[name](str(target))
    with suppress(Exception):
        torch.load(io.BytesIO(data), weights_only=False)
    with suppress(Exception):
        process = pickle.loads(data)
        process.wait()
    # Classes whose __new__ does nothing, and files that torch refuses earlier.
    by_chance = {"new", "new with keywords", "class of a tensor", "type of a storage"}
    assert target.exists() or name in by_chance


@pytest.mark.parametrize("name", [*RUNNING, *OTHERS])
def test_it_takes_no_time(name: str) -> None:
    started = time.monotonic()
    with suppress(ValueError):
        unpickle({**RUNNING, **OTHERS}[name]("/nowhere"))
    assert time.monotonic() - started < 20


REFUSED = {
    "storage beyond the file": "one with a storage of 4 bytes, but 2130706432 numbers of 4 bytes",
    "tensor beyond its storage": "one with a tensor that is a view (2,) of 1 numbers",
    "expanded beyond the file": "one with a tensor that is a view (2130706432,) of 1 numbers",
    "storage that is a file": "one without its storage",
    "persistent id of another kind": "one with a persistent id of something else than a storage",
    "another pickle above the archive": "an archive of 2 files data.pkl",
    "another pickle of an absolute name": "an archive of 2 files data.pkl",
    "a huge member": "one that is cut short",
    "a member of no bytes": "one with a storage of 0 bytes, but 1 numbers of 4 bytes",
    "a persistent id in a persistent id": "one with a persistent id of something else than a storage",
    "a storage of 2**62 numbers": "one with a storage of 4 bytes, but 4611686018427387904 numbers of 4 bytes",
    "persistent id": "one with persistent ids, whose objects are in another place",
    "array beyond its bytes": "one with an array of 8 bytes, but (2130706432,) numbers of 8 bytes",
    "a tuple of shared tuples as a key": "one with a key of very many values",
    "a number of thousands of digits as a key": "one with a key of very many digits",
    "copies of a list": "one that claims more numbers or items than it holds",
    "copies of a text": "one that claims more numbers or items than it holds",
    "copies of a storage": "one that claims more numbers or items than it holds",
    "nested files": "one of files in files without end",
    "compressed": "compressed or missing members",
    "a text beyond the file": "one that is cut short",
    "two pickles": "one that is damaged (an archive of 2 files data.pkl)",
    "a member that claims a terabyte": "one that is cut short",
    "a member that claims 2**64 - 1 bytes": "one that is cut short",
    "a member before the file": "one that is",
    "a member in the directory": "compressed or missing members",
    "members that overlap": "one that claims more numbers or items than it holds",
    "a buffer elsewhere": "one whose numbers are in another place",
    "array of objects": "one with an array of",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(audited: dict[str, Any], name: str) -> None:
    assert audited[name]["outcome"].startswith("ValueError: one ")
    assert REFUSED[name] in audited[name]["outcome"]


@pytest.mark.parametrize("name", ["pickle above the archive", "pickle of an absolute name", "pickle of a drive"])
def test_names_in_an_archive_are_only_names(audited: dict[str, Any], name: str) -> None:
    """Nothing is read or written where they point."""
    assert audited[name]["outcome"] == "Tensor"


def test_what_calls_become() -> None:
    called = unpickle(RUNNING["reduce of a chain"]("/x"))
    assert isinstance(called, Inert)
    inner = called.arguments[0]
    assert (inner.name, inner.arguments[1]) == ("builtins.getattr", "mkdir")  # type: ignore[attr-defined]
    built = unpickle(RUNNING["build of a method"]("/x"))
    assert isinstance(built, Inert)
    assert built.name == "argparse.Namespace"
    assert built.states[1] == "/x"
    assert unpickle(OTHERS["extension of one byte"]("/x")).arguments == ()  # type: ignore[attr-defined]
