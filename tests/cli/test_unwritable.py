"""Outputs that cannot be written: said in one line, before the long work, and never with a traceback."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.support.command import HERE

Esv = Callable[..., tuple[int, str, str]]


@pytest.fixture
def read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A place where nothing can be written, not even by root: a disk that can only be read."""

    def fail(file: int) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "fsync", fail)
    return str(tmp_path / "out")


def refused(outcome: tuple[int, str, str], place: str) -> None:
    """Assert that a command ended at once, with one line that names the place."""
    code, out, err = outcome
    assert (code, out) == (2, ""), err
    assert err.startswith("esv: cannot write the "), err
    assert place in err
    assert "Read-only file system" in err
    assert err.count("\n") == 1, err


def test_before_a_demo_is_trained(esv: Esv, read_only: str) -> None:
    refused(esv("demo", read_only), read_only)


def test_before_a_model_is_trained(esv: Esv, features: str, read_only: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("esv_ray.training.planning.read_train_data", None)  # nothing may call it
    refused(esv("train", "--features", features, "--output", read_only), read_only)


def test_before_a_job_reads_the_footers(
    esv: Esv, features: str, bundle: str, read_only: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("esv_ray.attribution.planning.read_footers", None)
    refused(esv("attribute", "--features", features, "--model", bundle, "--output", read_only, *HERE), read_only)


def test_before_a_model_is_imported(esv: Esv, tmp_path: Path, read_only: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"fc.weight": torch.ones(2, 4), "fc.bias": torch.zeros(2)}, tmp_path / "fc.pth")
    monkeypatch.setattr("esv_ray.models.sources.importing.prior_of", None)
    words = ["--from", "linear", str(tmp_path / "fc.pth"), "--layer", "fc", "--prior", "uniform"]
    refused(esv("import", "model", *words, "--out", read_only), read_only)


def test_before_the_engine_is_measured(esv: Esv, read_only: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(read_only).parent
    monkeypatch.setattr("esv_ray.bench.measure.ceilings", None)
    refused(esv("bench", "-n", "4", "--json", str(folder / "b.json")), str(folder))
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    "error", [OSError(errno.EROFS, "Read-only file system", "/x"), PermissionError(13, "no", "/x")]
)
def test_errors_of_the_file_system_that_nobody_expected(
    error: OSError, esv: Esv, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line, not a traceback: the request or the machine must change, not the code."""

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("esv_ray.bench.measure.ceilings", fail)
    code, out, err = esv("bench", "-n", "4")
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert err.startswith(f"esv: {type(error).__name__}: ")
    assert "/x" in err
