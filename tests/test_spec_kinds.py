"""Which kind of work a spec describes."""

from __future__ import annotations

from pathlib import Path

import pytest

from esv_ray.errors import SpecError
from esv_ray.spec import JobSpec
from esv_ray.spec_extract import ExtractSpec
from esv_ray.spec_kinds import (
    ATTRIBUTION,
    EXTRACTION,
    KINDS,
    TRAINING,
    Kind,
    check_kind,
    kind_in,
    kind_of,
    load_work,
    locations_of,
)
from esv_ray.spec_train import TrainSpec
from esv_ray.spec_yaml import read_plain, read_value, write_value
from esv_ray.submit.submission import spec_text

JOB = {"features": "/f", "model": "/m", "output": "/o"}
EXTRACT = {"videos": "/v", "backbone": "a.b:c", "output": "/o", "arguments": {"width": 3, "name": "1e3"}, "fps": 2.5,
           "code": ["a"], "size": [3, 4], "cluster": {"actors": 2}}  # fmt: skip
SEVERAL = {"videos": "/v", "output": "/o", "backbone": ["pooled", {"backbone": "a.b:c", "arguments": {"w": 1},
           "weights": "s3://x/w.pt", "size": [3, 4], "name": "x"}]}  # fmt: skip
TRAIN = {"features": "/f", "output": "/o", "preset": "play-fair", "epochs": 3, "validation": 0.2}
WIDTHS = {"features": "/f", "output": "/o", "hidden": [64, 32], "cluster": {"actors": 2}}
SPECS = (
    (JOB, ATTRIBUTION, JobSpec),
    (EXTRACT, EXTRACTION, ExtractSpec),
    (SEVERAL, EXTRACTION, ExtractSpec),
    (TRAIN, TRAINING, TrainSpec),
    (WIDTHS, TRAINING, TrainSpec),
)


def test_locations_of_an_extraction_are_those_of_all_backbones() -> None:
    backbones = "[pooled, {backbone: 'timm:a', weights: s3://x/a.pt}, {backbone: 'timm:b', weights: s3://x/b.pt}]"
    spec = load_work(None, ["videos=s3://x/clips", "output=s3://x/out", f"backbone={backbones}", "labels=s3://x/l.csv"])
    assert locations_of(spec) == [
        ("videos", "s3://x/clips"), ("labels", "s3://x/l.csv"), ("weights", "s3://x/a.pt"), ("weights", "s3://x/b.pt"),
        ("output", "s3://x/out"),
    ]  # fmt: skip


def test_each_kind_is_known_by_its_keys(tmp_path: Path) -> None:
    for values, kind, spec in SPECS:
        loaded = load_work(values)
        assert kind_of(loaded) is kind_in(values) is kind
        assert isinstance(loaded, spec)
        assert load_work(read_plain(spec_text(loaded))) == loaded, "a submitted spec is the same"
        file = tmp_path / f"{kind.command}.yaml"
        file.write_text(spec_text(loaded))
        check_kind(str(file), kind)
        for other in (each for each in KINDS if each is not kind):
            with pytest.raises(SpecError, match=rf"of esv {kind.command}; run esv {kind.command} ") as caught:
                check_kind(str(file), other)
            assert "\n" not in str(caught.value)


def test_overrides_count_too() -> None:
    assert kind_in(None, ["videos=x", "output=y"]) is EXTRACTION
    assert kind_in({"output": "/o"}, ["compute.unit=3"]) is kind_in(None) is ATTRIBUTION
    loaded = load_work({"output": "/o"}, ["videos=/v", "backbone=pooled"], code=["mine"])
    assert isinstance(loaded, ExtractSpec)
    assert loaded.code == ("mine",)


@pytest.mark.parametrize(("values", "kind"), [(values, kind) for values, kind, _ in SPECS])
def test_what_every_kind_has(values: dict[str, object], kind: Kind) -> None:
    assert {kind for _, kind, _ in SPECS} == set(KINDS)
    loaded = load_work(values)
    assert (loaded.output, loaded.threads, kind_of(loaded)) == ("/o", 1, kind)
    assert loaded.cluster.on("auto").address == "auto"
    assert set(kind_of(loaded).reads) <= set(type(loaded).model_fields)


@pytest.mark.parametrize(
    "value", [None, True, 3, 1e-9, 2.5, "1e3", "null", "a: b # c", "\u2028\n'\"", [1, "2"], {"a": [None]}]
)
def test_values_are_written_as_they_are_read(value: object) -> None:
    text = write_value(value)
    assert "\n" not in text
    assert read_value(text) == value
