"""Zero-shot classifiers: text embeddings in the files that people have."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from click.testing import CliRunner
from torch import Tensor
from torch.nn import functional as F

from esv_ray.cli import cli
from esv_ray.models.bundle import load_model
from esv_ray.models.explain import explain
from esv_ray.models.sources import clip
from tests.support.oracle import esv_by_orders, module_game
from tests.support.pooled import Plain

D, C = 6, 3
TEXT = torch.randn((C, D), generator=torch.Generator().manual_seed(0))


def saved(path: Path, write: Callable[[Path], object]) -> str:
    write(path)
    return str(path)


def npy(content: Any) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        with path.open("wb") as file:
            np.save(file, content)

    return write


def npz(**arrays: Any) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        with path.open("wb") as file:
            np.savez_compressed(file, **arrays)

    return write


FILES: dict[str, tuple[Callable[[Path], object], float]] = {
    "numpy": (npy(TEXT.numpy()), 100.0),
    "half precision": (npy(F.normalize(TEXT).half().numpy()), 100.0),
    "big-endian": (npy(TEXT.numpy().astype(">f4")), 100.0),
    "big-endian in Fortran's order": (npy(np.asfortranarray(TEXT.numpy().astype(">f8"))), 100.0),
    "long double": (npy(TEXT.numpy().astype(np.longdouble)), 100.0),
    "npz": (npz(text=TEXT.numpy(), logit_scale=np.float32(math.log(20.0)), names=np.array(["a", "b", "c"])), 20.0),
    "big-endian in a dict": (lambda path: torch.save({"text": TEXT.numpy().astype(">f4")}, path), 100.0),
    "nested": (
        lambda path: torch.save(
            {"epoch": 3, "state_dict": {"module": {"text": TEXT, "logit_scale": torch.tensor(math.log(20.0))}}}, path
        ),
        20.0,
    ),
    "a tensor": (lambda path: torch.save(TEXT, path), 100.0),
    "a state dict": (lambda path: torch.save({"text": TEXT, "logit_scale": torch.tensor(math.log(20.0))}, path), 20.0),
    "a dict of arrays": (lambda path: torch.save({"text": TEXT.numpy(), "names": ["a", "b", "c"]}, path), 100.0),
    "a plain number": (lambda path: torch.save({"text": TEXT, "logit_scale": math.log(20.0)}, path), 20.0),
    "names beside it": (lambda path: torch.save({"text": TEXT, "names": np.array(["a", "b", "c"])}, path), 100.0),
    "safetensors": (lambda path: safetensors.torch.save_file({"text": TEXT}, path), 100.0),
}


def run(folder: Path, file: str, *options: str) -> tuple[int, str]:
    prior = folder / "prior.csv"
    prior.write_text("class,prior\n0,0.5\n1,0.3\n2,0.2\n")
    arguments = ["--from", "clip", "--out", str(folder / "bundle"), "--prior", str(prior), *options, file]
    result = CliRunner().invoke(cli, ["import", "model", *arguments])
    return result.exit_code, result.output + (str(result.exception) if result.exception else "")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("given", [None, 7.5])
def test_f_is_the_scaled_cosine_of_the_mean(tmp_path: Path, name: str, given: float | None) -> None:
    write, own = FILES[name]
    code, output = run(tmp_path, saved(tmp_path / "text", write), *([] if given is None else ["--scale", str(given)]))
    assert code == 0, output
    scale = own if given is None else given
    assert f"{scale:g} x cosine" in output
    assert ("the text embeddings are normalized" in output) == (name != "half precision")

    def forward(sequences: Tensor) -> Tensor:
        mean = F.normalize(sequences, dim=-1).mean(dim=1)
        return scale * F.normalize(mean, dim=-1) @ F.normalize(TEXT, dim=1).T

    features = torch.randn((4, D), generator=torch.Generator().manual_seed(1))
    game = module_game(Plain(forward), features, torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64))
    result = explain(load_model(str(tmp_path / "bundle")), features, estimator="exact")
    tolerance = 2e-2 if name == "half precision" else 1e-5
    np.testing.assert_allclose(result.esv, esv_by_orders(game, 4), rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("write", "part"),
    [
        (npy(np.ones(3)), "expected one matrix (C, D) of text embeddings, got the matrix (3,)"),
        (npy(np.array([["a"]], dtype=object)), "expected a .npy file of numbers"),
        (npy(np.full((C, D), np.nan)), "expected finite text embeddings"),
        (npy(np.zeros((C, D))), "expected finite text embeddings other than zero"),
        (lambda path: path.write_text("a photo of a dog"), "expected a .npy, .npz, .safetensors or torch file"),
        (lambda path: path.write_bytes(b""), "expected a .npy, .npz, .safetensors or torch file"),
        (lambda path: torch.save({"a": TEXT, "b": TEXT}, path), "got a (3, 6), b (3, 6)"),
        (lambda path: torch.save([1, 2], path), "got list"),
        (npz(a=TEXT.numpy(), b=TEXT.numpy()), "got a (3, 6), b (3, 6)"),
        (npz(a=np.array([["a"]], dtype=object)), "expected a .npz file of numbers"),
        (lambda path: (npz(a=TEXT.numpy())(path), path.write_bytes(path.read_bytes()[:-30])), "or torch file"),
        (npy(TEXT.numpy().astype(complex)), "expected a .npy file of numbers, got complex128"),
        (npy(np.zeros(2, dtype=[("a", "f4")])), "expected a .npy file of numbers, got [('a', '<f4')]"),
        (lambda path: torch.save({"a": {"text": TEXT}, "b": {"text": TEXT}}, path), "got a.text (3, 6), b.text (3, 6)"),
        (
            lambda path: torch.save({"text": TEXT, "a": {"logit_scale": 1.0}, "b": {"logit_scale": 2.0}}, path),
            "expected one logit_scale, got a.logit_scale, b.logit_scale",
        ),
        (lambda path: torch.save({"text": TEXT.to_sparse()}, path), "expected one matrix"),
        (lambda path: torch.save({"text": torch.empty(C, D, device="meta")}, path), "expected one matrix"),
        (lambda path: torch.save({"text": TEXT, "logit_scale": torch.tensor(-1e4)}, path), "logit_scale: expected"),
        (lambda path: torch.save({"text": TEXT, "logit_scale": 100.0}, path), "logit_scale: expected the logarithm"),
        (npy(TEXT.numpy() * 1e30), "expected finite text embeddings"),
        (npy(TEXT.numpy()[:2]), "expected a prior of 2 classes"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, write: Callable[[Path], object], part: str) -> None:
    code, output = run(tmp_path, saved(tmp_path / "text", write))
    assert code != 0
    assert re.search(re.escape(part), output), output
    assert not (tmp_path / "bundle").exists()


def test_tensors_that_are_not_used_are_reported(tmp_path: Path) -> None:
    content = {"state_dict": {"text": TEXT, "bias": torch.ones(C), "logit_scale": 1.0}, "epoch": torch.tensor(3)}
    code, output = run(tmp_path, saved(tmp_path / "text", lambda path: torch.save(content, path)))
    assert code == 0, output
    assert re.search(r"^not used +state_dict.bias \(3,\)$", output, re.MULTILINE), output


def test_an_archive_of_too_much_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip, "_MOST_BYTES", 10**6)
    code, output = run(tmp_path, saved(tmp_path / "text", npz(text=np.zeros((1000, 1000), np.float32))))
    assert code != 0
    assert "expected at most 1000000 bytes of text embeddings" in output
