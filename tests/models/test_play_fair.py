"""The authors' checkpoints, as they publish them, and what their code gives for them."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import permutations
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from esv_ray.errors import DataError, ModelError
from esv_ray.models.bundle import load_model
from esv_ray.models.explain import explain
from tests.conftest import FILES
from tests.support.play_fair import CLASSES, PRIOR, import_play_fair, imported, refusal, state_of, written

TRN = tuple(f"trn_{s}_frames.pth" for s in (1, 2, 3, 4))
DEEP = tuple(f"deep_{s}_frames.pth" for s in (1, 2, 3))
MTRN, TSN = ("mtrn_4_frames.pth",), ("tsn.pth",)
KINDS = {"trn": TRN, "deep": DEEP, "tsn": TSN}


@pytest.fixture(scope="module")
def videos() -> dict[str, npt.NDArray[np.float32]]:
    """Of each video of the HDF5 file the frames that the authors' code was given."""
    expected = np.load(FILES / "expected.npz")
    with h5py.File(FILES / "features.hdf") as hdf:
        group = hdf["validation"]
        dim = int(group["features"].attrs["feature_dim"])
        uids = [uid.decode() for uid in group["uids"][:]]
        rows = [np.asarray(row, np.float32).reshape(-1, dim) for row in group["features"][:]]
    return {uid: row[expected[f"frames.{uid}"]] for uid, row in zip(uids, rows, strict=True)}


# --- the recorded numbers


@pytest.mark.parametrize("kind", KINDS)
def test_esvs_are_those_of_the_authors_code(
    tmp_path: Path, videos: Mapping[str, npt.NDArray[np.float32]], kind: str
) -> None:
    expected = np.load(FILES / "expected.npz")
    model = load_model(imported(tmp_path / "model", *KINDS[kind], classes=CLASSES))
    assert model.classes is not None
    assert model.classes[1] == "Doing thing 1, with [something]"
    assert len(videos) == 6
    for uid, features in videos.items():
        result = explain(model, features)
        assert result.exact
        assert np.allclose(result.esv.numpy(), expected[f"{kind}.{uid}.esv"], rtol=0, atol=1e-5)
        assert np.allclose(result.scores.numpy(), expected[f"{kind}.{uid}.scores"], rtol=0, atol=1e-5)
    together = explain(model, list(videos.values()))
    for uid, result in zip(videos, together, strict=True):
        assert np.allclose(result.esv.numpy(), expected[f"{kind}.{uid}.esv"], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("names", "n_max", "message"),
    [
        (TRN, 4, "multi-scale model, n_max = 4, D = 16, C = 7"),
        (DEEP, 3, "multi-scale model, n_max = 3, D = 16, C = 7"),
        (MTRN, 4, "multi-scale model, n_max = 4, D = 16, C = 7"),
        (TSN, None, "TSN, D = 16, C = 7"),
    ],
)
def test_what_is_said_and_written(tmp_path: Path, names: tuple[str, ...], n_max: int | None, message: str) -> None:
    out = tmp_path / "model"
    assert import_play_fair([str(FILES / name) for name in names], prior=PRIOR, out=str(out)) == message
    model = load_model(str(out))
    assert (model.n_max, model.n_classes, model.feature_dim, model.classes) == (n_max, 7, 16, None)
    assert model.dtype == torch.float32
    text = (FILES / "class-priors.csv").read_text()
    assert model.prior.tolist() == [float(line.partition(",")[2]) for line in text.split()[1:]]


def test_files_may_be_given_in_any_order(tmp_path: Path) -> None:
    digests = {
        load_model(imported(tmp_path / str(index), *names)).digest for index, names in enumerate(permutations(DEEP))
    }
    assert len(digests) == 1
    assert load_model(imported(tmp_path / "a", *TRN)).digest == load_model(imported(tmp_path / "b", *TRN[::-1])).digest


def test_the_joint_file_holds_the_same_model_as_the_single_ones(tmp_path: Path) -> None:
    joint, single = Path(imported(tmp_path / "joint", *MTRN)), Path(imported(tmp_path / "single", *TRN))
    names = sorted(path.name for path in joint.iterdir())
    assert names == [*(f"head-{s:02d}.safetensors" for s in (1, 2, 3, 4)), "model.json", "prior.csv"]
    assert all((joint / name).read_bytes() == (single / name).read_bytes() for name in names)
    assert load_model(str(joint)).digest == load_model(str(single)).digest


def test_the_input_relu_of_a_tsn_is_asked_for(tmp_path: Path) -> None:
    """Its checkpoint does not tell; the authors' have it."""
    features = torch.randn((3, 16), generator=torch.Generator().manual_seed(0))
    state = state_of("tsn.pth")
    for relu in (True, False):
        model = load_model(imported(tmp_path / str(relu), *TSN, input_relu=relu))
        elements = features.relu() if relu else features
        scores = torch.softmax((elements @ state["classifier.weight"].T + state["classifier.bias"]).mean(dim=0), dim=0)
        assert torch.allclose(explain(model, features).scores, scores, rtol=0, atol=1e-6)


# --- other spellings of the same


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"model": state},
        lambda state: {"state_dict": state, "epoch": 3, "args": {"lr": 0.1}},
        lambda state: state,
        lambda state: {"model": {f"module.{key}": tensor for key, tensor in state.items()}},
        lambda state: {"state_dict": {key: tensor.double() for key, tensor in state.items()}},
    ],
    ids=["model", "state_dict", "bare", "module. of DataParallel", "float64"],
)
@pytest.mark.parametrize("names", [TRN[:2], DEEP[:1], MTRN, TSN])
def test_state_dicts_are_found(
    tmp_path: Path, names: tuple[str, ...], wrap: Callable[[dict[str, Tensor]], dict[str, Any]]
) -> None:
    files = [written(tmp_path / name, wrap(state_of(name))) for name in names]
    out = str(tmp_path / "model")
    import_play_fair(files, prior=PRIOR, out=out)
    assert load_model(out).digest == load_model(imported(tmp_path / "expected", *names)).digest


def test_the_file_format_before_zip(tmp_path: Path) -> None:
    old = written(tmp_path / "trn_1_frames.pth", {"model": state_of(TRN[0])}, _use_new_zipfile_serialization=False)
    out = str(tmp_path / "model")
    import_play_fair([old], prior=PRIOR, out=out)
    assert load_model(out).digest == load_model(imported(tmp_path / "expected", TRN[0])).digest


# --- what is refused


class Malicious:
    """Unpickled, it would write a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("place", ["whole", "model", "beside", "within", "raw pickle", "before zip"])
@pytest.mark.filterwarnings("ignore")
def test_nothing_but_tensors_is_unpickled(tmp_path: Path, place: str) -> None:
    target, path = tmp_path / "written", tmp_path / "trn_1_frames.pth"
    malicious, state = Malicious(target), state_of(TRN[0])
    contents: dict[str, object] = {
        "whole": malicious,
        "model": {"model": malicious},
        "beside": {"model": state, "optimizer": malicious},
        "within": {"model": {**state, "model.9.weight": malicious}},
        "raw pickle": malicious,
        "before zip": {"model": state, "optimizer": malicious},
    }
    if place == "raw pickle":
        path.write_bytes(pickle.dumps(malicious))
    else:
        torch.save(contents[place], path, _use_new_zipfile_serialization=place != "before zip")
    if place in ("beside", "before zip"):
        assert "D = 16" in import_play_fair([str(path)], prior=PRIOR, out=str(tmp_path / "model"))
    else:
        assert "posix.mkdir" in refusal(tmp_path, str(path)) or place == "model"
    assert not target.exists()
    with suppress(RuntimeError):  # a raw pickle is no checkpoint, which is found out too late
        torch.load(path, weights_only=False)
    assert target.exists(), "it is not malicious"


@pytest.mark.parametrize("names", [(TRN[0], TRN[2]), (TRN[1], TRN[2]), (TRN[0], TRN[1], TRN[3])])
def test_a_missing_scale_is_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    text = refusal(tmp_path, *(str(FILES / name) for name in names))
    assert "every scale 1..n_max" in text
    for name in names:
        assert f"{FILES / name}: {16 * int(name[4])} inputs" in text


def test_a_joint_file_without_a_scale_is_refused(tmp_path: Path) -> None:
    state = {key: tensor for key, tensor in state_of(MTRN[0]).items() if not key.startswith("single_scale_models.1.")}
    path = written(tmp_path / "mtrn_4_frames.pth", {"model": state})
    text = refusal(tmp_path, path)
    assert "every scale 1..n_max" in text
    assert f"{path}, scale 3: 48 inputs" in text


def test_a_name_that_ends_as_a_place_in_a_message_says_nothing(tmp_path: Path) -> None:
    path = written(tmp_path / "mtrn, scale 3", {"model": state_of(MTRN[0])})
    assert load_model(imported(tmp_path / "model", path)).n_max == 4


@pytest.mark.parametrize("names", [(TRN[1],), (TRN[1], TRN[3])])
def test_scales_that_are_multiples_of_another_do_not_pass_for_it(tmp_path: Path, names: tuple[str, ...]) -> None:
    refusal(tmp_path, *(str(FILES / name) for name in names))


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        ((TRN[0], DEEP[1]), ("one kind", "input ReLU", "batch norm")),
        ((*MTRN, TRN[0]), ("every scale", "scale 1: 16 inputs", "trn_1_frames.pth: 16 inputs")),
        ((*TSN, TRN[0]), ("tsn.pth", "TSN", "one checkpoint, got 2")),
        ((TRN[0], *TSN), ("tsn.pth", "TSN", "classifier")),
        ((*MTRN, *TSN), ("tsn.pth", "TSN", "classifier")),
        (("features.hdf",), ("features.hdf", "checkpoint")),
        (("classes.csv",), ("classes.csv", "checkpoint")),
        (("expected.npz",), ("expected.npz", "checkpoint")),
    ],
)
def test_what_does_not_make_one_model_is_refused(
    tmp_path: Path, names: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    text = refusal(tmp_path, *(str(FILES / name) for name in names))
    assert all(part in text for part in parts), text


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ([1, 2], ("state dict", "without named tensors")),
        ({}, ("state dict", "no tensors")),
        ({"model": {"a": "b"}}, ("state dict", "no tensors")),
        ({"model": {"fc.weight": torch.ones(2, 2)}}, ("model.<i>.weight", "'fc.weight'")),
        ({1: torch.ones(2)}, ("model.<i>.weight", "'1'")),
        ({"model": {"model.1.bias": torch.ones(3)}}, ("linear layer at place 1 or 2", "[1]")),
        ({"model": {"model.0.weight": torch.ones(7, 16)}}, ("linear layer at place 1 or 2", "[0]")),
        ({"model": {**state_of(TRN[0]), "model.3.weight": torch.ones(7, 9)}}, ("linears.1.weight", "[7, 9]")),
        ({"model": {**state_of(TRN[0]), "model.3.bias": torch.full((7,), torch.nan)}}, ("finite", "NaN")),
        ({"model": {"classifier.weight": torch.ones(7, 16)}}, ("classifier.bias (C,)", "(7, 16)", "bias none")),
        ({"model": {"classifier.weight": torch.ones(7), "classifier.bias": torch.ones(7)}}, ("(C, D)", "(7,)")),
        pytest.param(
            {"model": {**state_of(TRN[0]), "model.1.weight": torch.ones(3)}},
            (),
        ),
        pytest.param(
            {"model": {"classifier.weight": torch.full((7, 16), torch.nan), "classifier.bias": torch.ones(7)}},
            ("finite",),
        ),
        pytest.param(
            {"model": {**state_of(MTRN[0]), "fc.weight": torch.ones(1)}},
            ("fc.weight",),
        ),
    ],
)
def test_checkpoints_of_something_else_are_refused(tmp_path: Path, content: object, parts: tuple[str, ...]) -> None:
    path = written(tmp_path / "x.pth", content)
    text = refusal(tmp_path, path)
    assert text.startswith(f"{path}: ")
    assert all(part in text for part in parts), text


@pytest.mark.parametrize("data", [b"", b"\x80\x02", b"PK\x03\x04" + bytes(60), bytes(range(256)) * 4])
def test_no_checkpoint_at_all_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(data)
    assert refusal(tmp_path, str(path)).startswith(f"{path}: expected a ")


def test_a_checkpoint_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trn_1_frames.pth"
    path.write_bytes((FILES / TRN[0]).read_bytes()[:2000])
    assert refusal(tmp_path, str(path)).startswith(f"{path}: expected a ")


@pytest.mark.parametrize("names", [TRN, DEEP, MTRN, TSN])
def test_a_prior_of_another_number_of_classes_is_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    prior = tmp_path / "prior.csv"
    prior.write_text("class,prior\n0,0.5\n1,0.5\n")
    text = refusal(tmp_path, *(str(FILES / name) for name in names), prior=str(prior))
    assert text.startswith(f"{prior}: expected a prior of 7 classes")
    assert "2 classes" in text
    assert "7" in text


def test_broken_priors_and_class_names_are_refused(tmp_path: Path) -> None:
    prior = tmp_path / "prior.csv"
    prior.write_text("class,prior\n0,0.5\n1,0.9\n")
    assert "sum of 1.4" in refusal(tmp_path, str(FILES / TRN[0]), prior=str(prior))
    assert "columns class" in refusal(tmp_path, str(FILES / TRN[0]), prior=CLASSES)
    assert "columns id" in refusal(tmp_path, str(FILES / TRN[0]), classes=PRIOR)
    classes = tmp_path / "classes.csv"
    classes.write_text("name,id\na,0\n")
    assert "class 0..6, got 1 rows" in refusal(tmp_path, str(FILES / TRN[0]), classes=str(classes))


def test_a_refused_prior_is_named(tmp_path: Path) -> None:
    assert CLASSES in refusal(tmp_path, str(FILES / TRN[0]), prior=CLASSES)
    assert PRIOR in refusal(tmp_path, str(FILES / TRN[0]), classes=PRIOR)


def test_missing_files_are_named(tmp_path: Path) -> None:
    none = str(tmp_path / "none")
    assert none in refusal(tmp_path, none, kind=DataError)
    assert none in refusal(tmp_path, str(FILES / TRN[0]), prior=none, kind=DataError)
    assert none in refusal(tmp_path, str(FILES / TRN[0]), classes=none, kind=DataError)


def test_a_bundle_is_not_written_over_another(tmp_path: Path) -> None:
    out = imported(tmp_path / "model", *TRN)
    digest = load_model(out).digest
    for names in (DEEP, TSN):
        with pytest.raises(ModelError, match="already"):
            imported(Path(out), *names)
    assert load_model(out).digest == digest
