"""Values of every form of torch.save and pickle.dump are those of torch.load and pickle.loads."""

from __future__ import annotations

import argparse
import datetime
import io
import pickle
import struct
import subprocess
import sys
import zipfile
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from esv_ray.unpickling import Inert, unpickle

FORMS = [(archive, protocol) for archive in (True, False) for protocol in (2, 3, 4, 5)]


class HistoryBuffer:
    """Like mmengine's: arrays and functions in an object."""

    def __init__(self) -> None:
        self._log_history = np.arange(4, dtype=np.float64)
        self._statistics_methods = {"mean": np.mean}


class DictConfig(dict[str, Any]):
    """Like OmegaConf's: a dictionary with a state."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        super().__init__(content)
        self.flags = {"readonly": True}


class Slots:
    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 3


class Sizes(NamedTuple):
    rows: int
    columns: int


def saved(value: object, archive: bool = True, protocol: int = 2) -> bytes:
    sink = io.BytesIO()
    torch.save(value, sink, _use_new_zipfile_serialization=archive, pickle_protocol=protocol)
    return sink.getvalue()


def check_equal(got: object, expected: object) -> None:
    """Compare values, their types, and those in them."""
    assert isinstance(got, type(expected)) or type(got) is tuple, (got, expected)
    if isinstance(expected, Tensor):
        assert isinstance(got, Tensor)
        assert (got.dtype, got.shape, got.layout) == (expected.dtype, expected.shape, expected.layout)
        assert got.stride() == expected.stride()
        same_bits = torch.equal(
            got.contiguous().view(-1).view(torch.uint8), expected.contiguous().view(-1).view(torch.uint8)
        )
        assert same_bits
    elif isinstance(expected, np.ndarray):
        assert isinstance(got, np.ndarray)
        assert got.dtype == expected.dtype
        assert np.array_equal(got, expected)
        assert got.flags.f_contiguous == expected.flags.f_contiguous
    elif isinstance(expected, dict):
        assert isinstance(got, dict)
        assert list(got) == list(expected)
        for key in expected:
            check_equal(got[key], expected[key])
    elif isinstance(expected, list | tuple | deque):
        assert isinstance(got, list | tuple | deque)
        assert len(got) == len(expected)
        for mine, theirs in zip(got, expected, strict=True):
            check_equal(mine, theirs)
    else:
        assert got == expected or (got != got and expected != expected)


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Conv2d(2, 3, 2, bias=False))


def contents() -> dict[str, object]:
    memory = torch.arange(24, dtype=torch.float32)
    return {
        "state": model().state_dict(),
        "parameter": nn.Parameter(torch.ones(2), requires_grad=False),
        "views": [memory.view(4, 6), memory[3:7], memory.view(4, 6).t(), memory[::2], memory[5]],
        "expanded": memory[:3].expand(2, 3)[:1],
        "empty": [torch.empty(0), torch.empty(0, 3), torch.tensor(2.5)],
        "types": [
            torch.tensor([1.5, -2.25]).to(dtype)
            for dtype in (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16)
        ],
        "more types": [
            torch.tensor([1.5, 0.25]).to(dtype)
            for dtype in (torch.int8, torch.uint8, torch.bool, torch.complex64, torch.complex128)
        ],
        "newest types": [torch.tensor([3, 70000]).to(torch.uint32), torch.ones(3).to(torch.float8_e5m2)],
        "size": torch.Size([2, 3]),
        "arrays": [
            np.arange(6, dtype=np.float32).reshape(2, 3),
            np.arange(6).reshape(2, 3).T,
            np.arange(3, dtype=">i2"),
            np.array(["a", "bcd"]),
            np.array([b"a", b"bcd"]),
            np.zeros((0, 3), np.float16),
            np.array(3.5),
            np.array([True, False]),
            np.array([1 + 2j]),
        ],
        "scalars": [np.float64(0.5), np.int64(-3), np.float32(1.5), np.bool_(True), np.str_("x")],
        "numbers": [0, 1, -1, 255, 256, 65535, 65536, -(2**31), 2**31, 2**63, -(2**63), 10**40, True, False, None],
        "floats": [0.1, -0.0, float("inf"), float("nan"), 1e300, 2 + 3j],
        "texts": ["", "a", "\u00e4\n'\"\\", "\U0001f600", "\udc80", "x" * 300, b"", b"\x00\xff\n", b"y" * 300],
        "bytearray": bytearray(b"abc"),
        "containers": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [], [[]], {}, {1: {2: 3}}, {(1, "a"): None}],
        "sets": [set(), {1, 2}, frozenset({1}), {frozenset({1}), (1, (2, 3))}],
        "collections": [OrderedDict(b=1, a=2), defaultdict(None, a=1), Counter("aab"), deque([1, 2])],
    }


@pytest.mark.parametrize(("archive", "protocol"), FORMS)
@pytest.mark.filterwarnings("ignore")
def test_checkpoints_hold_what_torch_loads(archive: bool, protocol: int) -> None:
    content = contents()
    if not archive:
        del content["newest types"]  # torch cannot load them
    data = saved(content, archive, protocol)
    check_equal(unpickle(data), torch.load(io.BytesIO(data), weights_only=False))


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("key", contents())
def test_plain_pickles_hold_what_pickle_loads(key: str, protocol: int) -> None:
    if key == "newest types":
        return  # torch cannot load them
    data = pickle.dumps(contents()[key], protocol=protocol)
    check_equal(unpickle(data), pickle.loads(data))


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=20,
)


@pytest.mark.slow
@given(PLAIN, st.integers(0, 5))
@settings(max_examples=200, deadline=None)
def test_any_plain_value(value: object, protocol: int) -> None:
    check_equal(unpickle(pickle.dumps(value, protocol=protocol)), value)


@pytest.mark.parametrize("archive", [True, False])
def test_views_of_one_storage_share_it(archive: bool) -> None:
    memory = torch.zeros(6)
    tensors: Any = unpickle(saved([memory, memory[2:4]], archive))
    whole, part = tensors
    whole[2] = 7
    assert part.tolist() == [7, 0]


def test_a_parameter_is_one() -> None:
    parameter = unpickle(saved(nn.Parameter(torch.ones(2))))
    assert isinstance(parameter, nn.Parameter)
    assert parameter.requires_grad


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("archive", [True, False])
def test_tensors_that_are_not_dense_are_tensors(archive: bool) -> None:
    eye = torch.eye(3)
    made = [eye.to_sparse(), eye.to_sparse_csr(), torch.quantize_per_tensor(eye, 0.5, 0, torch.qint8), eye.to("meta")]
    tensors: Any = unpickle(saved(made, archive))
    coo, csr, quantized, meta = tensors
    assert torch.equal(coo.to_dense(), eye)
    assert torch.equal(csr.to_dense(), eye)
    assert torch.equal(quantized.dequantize(), eye)
    assert (meta.device.type, meta.shape) == ("meta", (3, 3))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_torchs_warnings_do_not_reach_the_terminal(tmp_path: Path) -> None:
    """In a process of its own, since torch gives some once a process."""
    eye, sizes = torch.eye(4), torch.ones(4).double()
    made = {
        **{str(dtype): torch.quantize_per_tensor(eye, 0.5, 0, dtype) for dtype in (torch.qint8, torch.quint8)},
        "qint32": torch.quantize_per_tensor(eye, 0.5, 0, torch.qint32),
        "per channel": torch.quantize_per_channel(eye, sizes, sizes.long(), 0, torch.qint8),
        "coo": eye.to_sparse(),
        "csr": eye.to_sparse_csr(),
        "csc": eye.to_sparse_csc(),
        "bsr": eye.to_sparse_bsr((2, 2)),
        "bsc": eye.to_sparse_bsc((2, 2)),
        "meta": eye.to("meta"),
        "complex": eye.to(torch.complex64),
        "numpy": np.eye(4),
    }
    files = []
    for archive in (True, False):
        for name, value in made.items():
            files.append(tmp_path / f"{name}-{archive}")
            files[-1].write_bytes(saved({"x": value}, archive))
    code = (
        "import sys, pathlib; from esv_ray.unpickling import unpickle\n"
        "for path in sys.argv[1:]: print(type(unpickle(pathlib.Path(path).read_bytes())['x']).__name__)"
    )
    for options in ([], ["-W", "error"]):
        command = [sys.executable, *options, "-c", code, *map(str, files)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert sorted(set(done.stdout.split())) == ["Tensor", "ndarray"]


def test_the_other_byte_order() -> None:
    """As a machine with the other one writes it: every number in a storage turned round."""
    tensors = {"a": torch.arange(5, dtype=torch.float32), "b": torch.tensor([1, -2]), "c": torch.tensor([1 + 2j])}
    sink = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved(tensors))) as source, zipfile.ZipFile(sink, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            if name.endswith("byteorder"):
                data = b"big"
            elif "/data/" in name:
                size = {"0": 4, "1": 8, "2": 4}[name[-1]]
                data = b"".join(data[i : i + size][::-1] for i in range(0, len(data), size))
            target.writestr(name, data)
    check_equal(unpickle(sink.getvalue()), tensors)


def test_old_files_with_views_of_storages() -> None:
    """As torch before 0.4 wrote them: a storage may be a part of another."""
    key, kind = b"X\x01\x00\x00\x00k", b"ctorch\nFloatStorage\n"
    identifier = b"(X\x07\x00\x00\x00storage" + kind + key + b"X\x03\x00\x00\x00cpuK\x06"
    part = b"(X\x01\x00\x00\x00vK\x02K\x03t"
    tensor = b"ctorch._utils\n_rebuild_tensor\n(" + identifier + part + b"tQK\x01(K\x02t(K\x01ttR."
    numbers = struct.pack("<q6f", 6, *range(6))
    start = [pickle.dumps(value, protocol=2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    data = b"".join([*start, b"\x80\x02" + tensor, pickle.dumps(["k"], protocol=2), numbers])
    tensors = unpickle(data)
    assert isinstance(tensors, Tensor)
    assert tensors.tolist() == [3, 4]


def test_a_pickle_of_python_2() -> None:
    """Strings of Python 2 are the bytes of an array as well as names."""
    raw = np.array([1.5, -2.0], dtype="<f4").tobytes()
    dtype = b"cnumpy\ndtype\n(U\x02f4K\x00K\x01tR(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR(K\x01(K\x02t" + dtype
    data = b"\x80\x02}U\x01w" + array + b"\x89U" + bytes([len(raw)]) + raw + b"tbs."
    assert unpickle(data)["w"].tolist() == [1.5, -2.0]  # type: ignore[index]
    assert pickle.loads(data, encoding="latin1")["w"].tolist() == [1.5, -2.0]
    assert unpickle(b"S'abc'\n.") == "abc"
    assert unpickle(b"S'\\xff\\n'\n.") == b"\xff\n"


# --- objects of classes


def objects() -> dict[str, object]:
    return {
        "message_hub": {"log_scalars": OrderedDict({"train/loss": HistoryBuffer()})},
        "hyper_parameters": DictConfig({"lr": 0.1, "optimizer": {"name": "sgd"}}),
        "args": argparse.Namespace(lr=0.1, arch="resnet"),
        "slots": Slots(),
        "sizes": Sizes(2, 3),
        "date": datetime.datetime(2020, 1, 1),
        "function": np.mean,
        "module": nn.Linear(2, 3),
        "device": torch.device("cpu"),
        "dtype": torch.float16,
        "type": np.dtype("f4"),
    }


NAMES = {
    "hyper_parameters": "tests.unpickling.test_values.DictConfig",
    "args": "argparse.Namespace",
    "sizes": "tests.unpickling.test_values.Sizes",
    "date": "datetime.datetime",
    "module": "torch.nn.modules.linear.Linear",
    "device": "torch.device",
    "dtype": "torch.float16",
    "type": "numpy.dtype",
}


def check_objects(content: object) -> None:
    assert isinstance(content, dict)
    for key, name in NAMES.items():
        assert isinstance(content[key], Inert), key
        assert content[key].name == name
    assert dict(content["args"].contents()) == {"lr": 0.1, "arch": "resnet"}
    assert content["hyper_parameters"].items == [("lr", 0.1), ("optimizer", {"name": "sgd"})]
    assert dict(content["slots"].contents())["value"] == 3
    module: dict[str, Any] = dict(content["module"].contents())
    assert module["_parameters"]["weight"].shape == (3, 2)
    history: dict[str, Any] = dict(content["message_hub"]["log_scalars"]["train/loss"].contents())
    assert np.array_equal(history["_log_history"], np.arange(4))


@pytest.mark.parametrize(("archive", "protocol"), FORMS)
@pytest.mark.filterwarnings("ignore")
def test_other_objects_are_inert(archive: bool, protocol: int) -> None:
    check_objects(unpickle(saved(objects(), archive, protocol)))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_other_objects_in_plain_pickles_are_inert(protocol: int) -> None:
    check_objects(unpickle(pickle.dumps(objects(), protocol=protocol)))


class Chain:
    """A container that is pickled as a call of its class with an unknown object."""

    def __init__(self, container: type) -> None:
        self.container = container

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        items = (Slots(),) if self.container is not defaultdict else (list, Slots())
        return self.container, items


@pytest.mark.parametrize("container", [list, tuple, set, frozenset, dict, OrderedDict, Counter, deque, defaultdict])
def test_a_container_made_from_an_unknown_object_is_inert(container: type) -> None:
    read = unpickle(pickle.dumps({"weight": np.ones(2), "other": Chain(container)}, protocol=2))
    assert isinstance(read, dict)
    assert np.array_equal(read["weight"], np.ones(2))
    assert isinstance(read["other"], Inert)
    assert read["other"].name.endswith(f".{container.__name__}")


# --- damage


DAMAGED: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "nothing": (lambda data: b"", "cut short"),
    "cut": (lambda data: data[:-100], "cut short"),
    "cut in the pickle": (lambda data: data[:400], "cut short"),
    "0xff in the pickle": (lambda data: data[:150] + b"\xff" * 9 + data[159:], "damaged"),
    "zeros": (lambda data: bytes(100), "byte 0 is no instruction"),
    "text": (lambda data: b"hello", "damaged"),
    "protocol": (lambda data: b"\x80\x06N.", "pickle protocol 6"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files(name: str) -> None:
    damage, part = DAMAGED[name]
    with pytest.raises(ValueError, match=r"^one .*" + part) as caught:
        unpickle(damage(saved(model().state_dict(), archive=False)))
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("archive", [True, False])
def test_bytes_changed_at_random(archive: bool) -> None:
    """Either a value or a ValueError, whatever is changed."""
    data, random = saved(contents(), archive), np.random.default_rng(0)
    for _ in range(300):
        changed = bytearray(data)
        for place in random.integers(0, len(data) // (1 if archive else 2), 5):
            changed[place] = random.integers(256)
        with suppress(ValueError):
            unpickle(bytes(changed))


def test_every_cut_of_a_file() -> None:
    for archive in (True, False):
        data = saved({"a": torch.ones(3), "b": np.ones(2), "c": argparse.Namespace(x=1)}, archive)
        for end in range(0, len(data) - 1, 7):
            with pytest.raises(ValueError, match=r"^one "):
                unpickle(data[:end])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:torch.quantize")
def test_warnings_of_torch_stay_inside() -> None:
    """A user cannot act on what torch thinks of the kinds of tensors in a file."""
    tensors = [torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8), torch.eye(3).to_sparse_csr()]
    sink = io.BytesIO()
    torch.save(tensors, sink)
    program = "import sys; from esv_ray.unpickling import unpickle; print(len(unpickle(sys.stdin.buffer.read())))"
    done = subprocess.run([sys.executable, "-c", program], input=sink.getvalue(), capture_output=True, check=True)
    assert (done.stdout.strip(), done.stderr) == (b"2", b"")
