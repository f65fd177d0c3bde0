"""Bundles and checkpoints that want to do harm: loading ends in a model or in one line, and runs no code of theirs."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from esv_ray.errors import EsvError, ModelError
from esv_ray.models.bundle import load_model
from esv_ray.models.class_tables import parse_classes, parse_prior
from esv_ray.models.explain import explain
from esv_ray.models.manifest import BundleManifest
from esv_ray.models.saving import save_heads
from tests.conftest import make_heads, make_prior
from tests.support.play_fair import import_play_fair

RAN = "hostile_bundle_ran"  # what code that ran would leave in the working folder
COMMAND = f"touch {RAN}"
ABSURD: list[object] = [
    0,
    -1,
    1.5,
    True,
    None,
    "3",
    [],
    {},
    10**12,
    2**24,
    2**63,
    10**400,
    float("nan"),
    "\ud800",
    "x" * 100_000,
]


@pytest.fixture(autouse=True)
def _nothing_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    yield
    assert not (tmp_path / RAN).exists()


def refusal(load: Callable[[], object]) -> str | None:
    """The line with which it is refused, or None."""
    try:
        load()
    except EsvError as error:
        message = str(error)
        assert "\n" not in message
        assert len(message) < 3000
        return message
    return None


def load(url: str) -> str | None:
    """Load a bundle and use what was loaded."""

    def work() -> None:
        model = load_model(url)
        if model.feature_dim < 1000:
            explain(model, torch.ones(2, model.feature_dim), memory_budget=10**8)

    return refusal(work)


def edit(url: str, **values: object) -> None:
    path = Path(url, "model.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize("value", ABSURD, ids=range(len(ABSURD)))
@pytest.mark.parametrize(
    "key", ["feature_dim", "n_classes", "n_max", "heads", "kind", "norm_eps", "format", "arguments"]
)
def test_absurd_values_in_model_json(bundle: str, key: str, value: object) -> None:
    path = Path(bundle, "model.json")
    content = json.loads(path.read_text())
    try:
        path.write_text(json.dumps({**content, key: value}))
    except ValueError:
        return
    load(bundle)


FULL: dict[str, dict[str, object]] = {
    "1": {
        "format": 1,
        "heads": ["head-01.safetensors", "head-02.safetensors", "head-03.safetensors"],
        "training": {},
        "arguments": {},
        "factory": None,
    },
    "2": {
        "combine": "mean",
        "projection": None,
        "over": "logits",
        "pooling": None,
        "factory": None,
        "arguments": {},
        "weights": None,
        "fixed_length": None,
        "training": None,
        "extraction": None,
    },
}
"""Further keys, with values that change nothing, so that every key of the format is there to be edited."""
KEYS = sorted(BundleManifest.model_fields)
PLACES = ["heads.1", "heads.1.file", "heads.1.weight", "heads.4", "heads.01", "pooling.form"]


def full(url: str, number: str) -> dict[str, Any]:
    """The model.json of a sound bundle with every key of a format."""
    edit(url, **FULL[number])
    assert load(url) is None
    return dict(json.loads(Path(url, "model.json").read_text()))


@pytest.mark.parametrize("number", FULL)
def test_every_key_deleted(bundle: str, number: str) -> None:
    """A bundle that has lost a key loads with the key's default, or is refused in a line."""
    content = full(bundle, number)
    needed = {"format", "kind", "feature_dim", "n_classes", "n_max", "heads"}
    for key in content:
        rest = {other: value for other, value in content.items() if other != key}
        Path(bundle, "model.json").write_text(json.dumps(rest))
        assert bool(load(bundle)) == (key in needed), key


@pytest.mark.parametrize("number", FULL)
@pytest.mark.parametrize("key", KEYS)
def test_every_key_with_absurd_values(bundle: str, number: str, key: str) -> None:
    """Whatever stands there, the end is a model or a line that names the key or its file."""
    content = full(bundle, number)
    for value in ABSURD:
        Path(bundle, "model.json").write_text(json.dumps({**content, key: value}))
        load(bundle)


@pytest.mark.parametrize("place", PLACES)
def test_absurd_values_within_a_key(bundle: str, place: str) -> None:
    content = full(bundle, "2")
    for value in ABSURD:
        key, _, inner = place.partition(".")
        edited = json.loads(json.dumps(content))
        held = edited[key] = edited[key] or {}
        for part in (parts := inner.split("."))[:-1]:
            held = held[part]
        held[parts[-1]] = value
        Path(bundle, "model.json").write_text(json.dumps(edited))
        load(bundle)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"format": 1, "arguments": ' + '{"a":' * 190 + "1" + "}" * 190 + "}",
        '{"format": ' + "9" * 100_000 + "}",
        '{"format": 1e999}',
        '{"format": 1, "format": 2}',
        "\ufeff{}",
        '"\\ud800"',
        "null",
        "NaN",
        "",
    ],
    ids=range(11),
)
def test_texts_in_place_of_model_json(bundle: str, text: str) -> None:
    Path(bundle, "model.json").write_text(text)
    assert load(bundle)


def test_arguments_that_json_cannot_hold(bundle: str) -> None:
    text = Path(bundle, "model.json").read_text().rstrip()[:-1] + ', "arguments": {"a": ' + "9" * 5000 + "}}"
    Path(bundle, "model.json").write_text(text)
    load(bundle)


def test_a_page_is_enough_for_model_json(bundle: str) -> None:
    Path(bundle, "model.json").write_text(" " * 10_000_001)
    assert "expected at most 10000000 bytes" in (load(bundle) or "")


HEADERS: dict[str, Callable[[bytes], bytes]] = {
    "2**60 bytes": lambda data: (2**60).to_bytes(8, "little") + data[8:],
    "2**64 - 1 bytes": lambda data: b"\xff" * 8 + data[8:],
    "more than there is": lambda data: len(data).to_bytes(8, "little") + data[8:],
    "none": lambda data: bytes(8) + data[8:],
    "half": lambda data: data[: len(data) // 2],
    "nothing": lambda data: b"",
    "a pickle": lambda data: pickle.dumps(Runs()),
    "huge shape": lambda data: with_header(data, shape=[2**40, 2**40]),
    "shape of zeros": lambda data: with_header(data, shape=[0, 2**60]),
    "overflowing shape": lambda data: with_header(data, shape=[2**63, 2**63, 4]),
    "negative offsets": lambda data: with_header(data, data_offsets=[-8, 8]),
    "offsets beyond": lambda data: with_header(data, data_offsets=[0, 2**62]),
    "offsets backwards": lambda data: with_header(data, data_offsets=[64, 0]),
    **{
        f"dtype {kind}": lambda data, kind=kind: with_header(data, dtype=kind)  # type: ignore[misc]
        for kind in ("F16", "F64", "I8", "BOOL", "F8_E4M3", "F8_E8M0", "F4", "C64", "U64", "NONE")
    },
}


class Runs:
    """An object that runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (COMMAND,)


def with_header(data: bytes, **values: object) -> bytes:
    """A safetensors file whose first tensor is described by something else."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    first = next(name for name in header if name != "__metadata__")
    header[first] = {**header[first], **values}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


@pytest.mark.parametrize("name", HEADERS)
def test_headers_that_lie(bundle: str, name: str) -> None:
    path = Path(bundle, "head-02.safetensors")
    path.write_bytes(HEADERS[name](path.read_bytes()))
    assert load(bundle)


@pytest.mark.slow
def test_thin_layers_are_not_taken_for_the_edges_of_a_huge_one(tmp_path: Path) -> None:
    """(10**6, 4), (10**6, 1), (3, 10**6): of the widths they tell, the middle would take 4 TB."""
    import safetensors.torch

    url = str(tmp_path / "model")
    save_heads(url, make_heads(n_max=1), make_prior(3))
    state: dict[str, torch.Tensor] = {}
    for i, shape in enumerate([(10**6, 4), (10**6, 1), (3, 10**6)]):
        state |= {f"linears.{i}.weight": torch.zeros(shape), f"linears.{i}.bias": torch.zeros(shape[0])}
    Path(url, "head-01.safetensors").write_bytes(safetensors.torch.save(state))
    assert "linears.1.weight: expected [1000000, 1000000], got [1000000, 1]" in (load(url) or "")


def mutated(data: bytes, seed: int) -> bytes:
    """Bytes changed, cut or doubled."""
    rng = random.Random(seed)
    out = bytearray(data)
    for _ in range(rng.randint(1, 5)):
        place = rng.randrange(len(out) + 1)
        what = rng.randrange(5)
        if what == 0:
            del out[place : place + rng.randint(1, 20)]
        elif what == 1:
            out[place:place] = rng.choice(
                (b"9" * 30, b"\0", b"\xff", b"-", b'"', b"{", b"1e999,", out[: rng.randint(0, 40)])
            )
        elif out and place < len(out):
            out[place] = rng.choice((0, 255, 127, 48, 57, rng.randrange(256)))
    return bytes(out)


def meet_bundle(bundle: str, seed: int) -> None:
    """Load a bundle a file of which is mutated."""
    path = sorted(Path(bundle).iterdir())[seed % len(list(Path(bundle).iterdir()))]
    original = path.read_bytes()
    try:
        path.write_bytes(mutated(original, seed))
        load(bundle)
    finally:
        path.write_bytes(original)


@pytest.mark.slow
def test_mutated_bundles(bundle: str) -> None:
    for seed in range(200):
        try:
            meet_bundle(bundle, seed)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_many_mutated_bundles_and_checkpoints(bundle: str, tmp_path: Path) -> None:
    """``pytest -m soak tests/models/test_hostile_bundles.py``"""
    original = checkpoint()
    for seed in range(1_000, 11_000):
        try:
            meet_bundle(bundle, seed)
            meet_checkpoint(tmp_path, mutated(original[seed % 2], seed))
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise


@pytest.mark.slow
@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.one_of(st.binary(max_size=100), st.text(max_size=100).map(lambda text: text.encode(errors="replace"))))
def test_any_bytes_as_csv(data: bytes) -> None:
    for content in (data, b"class,prior\n" + data, b"name,id\n" + data):
        refusal(lambda content=content: parse_prior(content, 3))  # type: ignore[misc]
        refusal(lambda content=content: parse_classes(content))  # type: ignore[misc]


@pytest.mark.parametrize(
    "data",
    [
        b"class,prior\n" + b"9" * 100_000 + b",1\n",
        b"class,prior\n0," + b"9" * 100_000 + b"\n",
        b"class,prior\n0,1e999\n1,-1e999\n",
        b"class,prior\n0,nan\n1,0.5\n",
        b"class,prior\n-1,0.5\n0,0.5\n",
        b"class,prior\n1000000000000,1\n",
        b'class,prior\n0,"' + b"x" * 1_000_000,
        b"," * 1_000_000,
        b"class,class\n0,0\n",
        b"class,prior\r0\0,1\r",
    ],
    ids=range(10),
)
def test_absurd_csv(bundle: str, data: bytes) -> None:
    assert refusal(lambda: parse_prior(data))
    assert refusal(lambda: parse_prior(data, 10**12))
    Path(bundle, "prior.csv").write_bytes(data)
    assert load(bundle)


# Names of files -------------------------------------------------------------------------------------------------------

NAMES = [
    *(
        "/etc/passwd",
        "/dev/zero",
        "../head-01.safetensors",
        "..",
        ".",
        "",
        "a/b",
        "a\\b",
        "..\\b",
        "C:\\b",
        "a\0b",
        "a\nb",
    ),
    *(
        "file:///etc/passwd",
        "http://127.0.0.1:9/x",
        "s3://bucket/key",
        "~/x",
        "a\x1b[2J",
        "\u202egnp",
        "x" * 5000,
        "//x/y",
    ),
    *("::", "simplecache::file://x", "zip://a::b", "%2e%2e%2fetc", "{a}", "*", "?", "nul"),
]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_names_do_not_leave_the_folder(bundle: str, name: str) -> None:
    shutil.copy(Path(bundle, "head-01.safetensors"), Path(bundle).parent)
    edit(bundle, format=1, heads=[name, "head-02.safetensors", "head-03.safetensors"])
    message = load(bundle)
    assert message
    assert message.isprintable()


@pytest.mark.parametrize("name", ["model.json", "head-01.safetensors", "prior.csv", "classes.csv"])
def test_links_out_of_the_folder_are_refused(bundle: str, name: str, tmp_path: Path) -> None:
    path = Path(bundle, name)
    outside = tmp_path / f"outside-{name}"
    path.rename(outside)
    path.symlink_to(outside)
    assert "got a link out of it" in (load(bundle) or "")


def test_links_within_the_folder_are_followed(bundle: str) -> None:
    """As Kubernetes mounts what it is told to."""
    (Path(bundle) / "..data").mkdir()
    for name in ("head-01.safetensors", "prior.csv"):
        Path(bundle, name).rename(Path(bundle, "..data", name))
        Path(bundle, name).symlink_to(Path("..data", name))
    assert load(bundle) is None


@pytest.mark.parametrize("target", ["/dev/zero", "/dev/stdin", "/proc/self/mem"])
@pytest.mark.parametrize("name", ["model.json", "head-01.safetensors", "prior.csv"])
@pytest.mark.timeout(20)
def test_devices_are_not_read(bundle: str, name: str, target: str) -> None:
    Path(bundle, name).unlink()
    Path(bundle, name).symlink_to(target)
    assert load(bundle)


@pytest.mark.timeout(20)
def test_a_pipe_is_not_waited_for(bundle: str) -> None:
    Path(bundle, "prior.csv").unlink()
    os.mkfifo(Path(bundle, "prior.csv"))
    assert "expected an ordinary file" in (load(bundle) or "")


def test_a_link_to_itself(bundle: str) -> None:
    Path(bundle, "prior.csv").unlink()
    Path(bundle, "prior.csv").symlink_to("prior.csv")
    assert load(bundle)


def test_a_file_of_holes_is_refused_before_it_is_read(bundle: str) -> None:
    for name in ("prior.csv", "head-01.safetensors", "classes.csv"):
        original = Path(bundle, name).read_bytes()
        os.truncate(Path(bundle, name), 2**43)
        assert "expected at most" in (load(bundle) or "")
        Path(bundle, name).write_bytes(original)


# Code -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("factory", "arguments"),
    [
        ("os:system", {"command": COMMAND}),
        ("subprocess:getoutput", {"cmd": COMMAND}),
        ("builtins:exec", {"source": COMMAND}),
        ("torch.hub:load", {"repo_or_dir": ".", "model": "x", "source": "local"}),
        ("numpy:load", {"file": "x", "allow_pickle": True}),
        ("..os:system", {"command": COMMAND}),
        ("os.path:os.system", {}),
        (".:x", {}),
        ("a" * 100_000 + ":b", {}),
        ("\0:\0", {}),
        ("esv_ray.storage:remove", {"url": "model"}),
    ],
    ids=range(11),
)
def test_a_bundle_calls_no_function_that_was_not_made_for_it(bundle: str, factory: str, arguments: object) -> None:
    edit(bundle, format=1, kind="python", heads=[], factory=factory, arguments=arguments)
    assert load(bundle)
    # Nor if somebody allows all that is here anyway.
    packages = ["os", "subprocess", "builtins", "torch", "numpy", "esv_ray"]
    assert refusal(lambda: load_model(bundle, code=packages))


def checkpoint() -> tuple[bytes, bytes]:
    """A sound checkpoint, as an archive and in the format before."""
    state = {f"model.{i}.{name}": value for i, name, value in (
        (1, "weight", torch.ones(7, 16)), (1, "bias", torch.ones(7)),
    )}  # fmt: skip
    files = []
    for archive in (True, False):
        sink = io.BytesIO()
        torch.save({"model": state}, sink, _use_new_zipfile_serialization=archive)
        files.append(sink.getvalue())
    return files[0], files[1]


def meet_checkpoint(folder: Path, data: bytes) -> str | None:
    """Import a checkpoint."""
    (folder / "x.pth").write_bytes(data)
    (folder / "prior").write_text("class,prior\n" + "".join(f"{i},{1 / 7!r}\n" for i in range(7)))
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    return refusal(lambda: import_play_fair([str(folder / "x.pth")], prior=str(folder / "prior"), out=str(out)))


def test_sound_checkpoints_are_imported(tmp_path: Path) -> None:
    assert [meet_checkpoint(tmp_path, data) for data in checkpoint()] == [None, None]


@pytest.mark.slow
def test_mutated_checkpoints(tmp_path: Path) -> None:
    original = checkpoint()
    for seed in range(200):
        try:
            meet_checkpoint(tmp_path, mutated(original[seed % 2], seed))
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise


def saved(value: object) -> bytes:
    """A checkpoint of one tensor."""
    sink = io.BytesIO()
    torch.save({"model": {"model.1.weight": value, "model.1.bias": torch.ones(7)}}, sink)
    return sink.getvalue()


TENSORS: dict[str, Callable[[], object]] = {
    "a view of one number": lambda: torch.ones(1).expand(7, 2**40),
    "a view of one number, two ways": lambda: torch.ones(1, 1).expand(10**6, 10**6),
    "sparse": lambda: torch.sparse_coo_tensor(torch.zeros(2, 1, dtype=torch.int64), torch.ones(1), (10**9, 10**9)),
    "compressed": lambda: torch.ones(7, 16).to_sparse_csr(),
    "nowhere": lambda: torch.ones(7, 16, device="meta"),
    "quantized": lambda: torch.quantize_per_tensor(torch.ones(7, 16), 0.1, 0, torch.qint8),
    "complex": lambda: torch.ones(7, 16, dtype=torch.complex64),
    "whole numbers": lambda: torch.ones(7, 16, dtype=torch.int64),
    "a number": lambda: torch.ones(()),
    "nothing": lambda: torch.ones(0, 16),
    "no inputs": lambda: torch.ones(7, 0),
    "code": Runs,
}


@pytest.mark.parametrize("name", TENSORS)
@pytest.mark.filterwarnings("ignore")
def test_tensors_of_other_kinds(name: str, tmp_path: Path) -> None:
    assert meet_checkpoint(tmp_path, saved(TENSORS[name]()))


def test_code_in_either_format_is_not_run(tmp_path: Path) -> None:
    for archive in (True, False):
        sink = io.BytesIO()
        torch.save({"model": Runs()}, sink, _use_new_zipfile_serialization=archive)
        assert "could run code" in (meet_checkpoint(tmp_path, sink.getvalue()) or "")
    for data in (
        pickle.dumps(Runs()),
        pickle.dumps(Runs(), 0),
        b"\x80\x02cos\nsystem\n(S'" + COMMAND.encode() + b"'\ntR.",
    ):
        assert meet_checkpoint(tmp_path, data)


@pytest.mark.timeout(60)
def test_an_archive_that_swells_is_refused(tmp_path: Path) -> None:
    sink = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(checkpoint()[0])) as source,
        zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as out,
    ):
        for name in source.namelist():
            out.writestr(name, bytes(50_000_000) if name.endswith("/0") else source.read(name))
    assert "unpacks to" in (meet_checkpoint(tmp_path, sink.getvalue()) or "")


# Python face ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{}, {"estimator": "exact"}, {"estimator": "algorithm1"}, {"m": 10**400}, {"iterations": 10**12}]
)
def test_explain_refuses_what_does_not_fit_before_it_is_computed(bundle: str, options: Any) -> None:
    model = load_model(bundle)
    features = torch.ones(1, 4).expand(200_000, 4)
    message = refusal(lambda: explain(model, features, memory_budget=10**8, **options))
    assert message
    assert "of memory, but only 100 MB is available" in message


@pytest.mark.parametrize("shape", [(0, 4), (10**12, 4), (4,), (2, 10**12), (2, 2, 2, 4), ()])
def test_explain_refuses_views_of_any_size(bundle: str, shape: tuple[int, ...]) -> None:
    features = torch.ones(()).expand(shape)
    with pytest.raises((ModelError, EsvError)):
        explain(load_model(bundle), features, memory_budget=10**8)
