"""Specs that want to do harm: whatever their bytes, loading ends in a spec or in one line, and soon."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from esv_ray.errors import EsvError, SpecError
from esv_ray.spec import JobSpec, fingerprint, job_keys, load_spec
from esv_ray.spec_train import load_train_spec

GOOD = {"features": "f", "model": "m", "output": "o"}
KEYS = [
    *JobSpec.model_fields,
    "n_max",
    "hidden",
    "epochs",
    "seed",
    "m",
    "iterations",
    "memory_budget",
    "threads",
    "unit",
]
HUGE = [2**31, 2**63, 2**64, 10**400, -(10**400), 1e308, float("inf"), float("nan"), -0.0, 10**5000]

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.binary(max_size=8), st.dates(),
    st.datetimes(), st.sampled_from(HUGE[:-1]),
)  # fmt: skip
keys = st.one_of(st.sampled_from(KEYS), st.text(max_size=8), st.integers(), st.none(), st.floats(), st.dates())
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4), max_leaves=12
)
written = st.dictionaries(keys, values, max_size=6).map(lambda given: {**GOOD, **given})


def meet(path: Path) -> list[str]:
    """Load both kinds of specs; the refusals, each one line."""
    refusals = []
    for load in (load_spec, load_train_spec):
        try:
            spec = load(str(path))
            if isinstance(spec, JobSpec):
                json.dumps(spec.model_dump(mode="json"))
                fingerprint(job_keys(spec))
        except EsvError as error:
            refusals.append(one_line(error))
    return refusals


def one_line(error: EsvError) -> str:
    """What it says, which is a line that may be printed."""
    message = str(error)
    assert "\n" not in message
    assert len(message) < 1500, "a page is no line"
    return message


@pytest.mark.slow
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(spec=written)
def test_random_values_in_yaml(tmp_path: Path, spec: object) -> None:
    path = tmp_path / "spec.yaml"
    try:
        path.write_text(yaml.safe_dump(spec, allow_unicode=True))
    except (yaml.YAMLError, ValueError, UnicodeError):  # what YAML cannot hold
        return
    meet(path)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(data=st.binary(max_size=200), place=st.integers(0, 100), text=st.booleans())
def test_random_bytes(tmp_path: Path, data: bytes, place: int, text: bool) -> None:
    good = yaml.safe_dump({**GOOD, "estimator": {"m": 4, "seed": 7}, "frames": [1, 2]}).encode()
    path = tmp_path / "spec.yaml"
    path.write_bytes(good[:place] + data + (good[place:] if text else b""))
    meet(path)


@settings(deadline=None, max_examples=100)
@given(key=st.one_of(st.sampled_from(KEYS), st.text(max_size=10)), value=st.text(max_size=30))
def test_random_overrides(key: str, value: str) -> None:
    for load in (load_spec, load_train_spec):
        try:
            load(GOOD, [f"{key}={value}"])
        except EsvError as error:
            one_line(error)


@pytest.mark.soak
@settings(deadline=None, max_examples=100_000)
@given(data=st.binary(max_size=300), spec=written)
def test_random_specs_for_long(tmp_path_factory: pytest.TempPathFactory, data: bytes, spec: object) -> None:
    """``pytest -m soak tests/test_hostile_specs.py --timeout 3600``"""
    path = tmp_path_factory.getbasetemp() / "long.yaml"
    stream = io.BytesIO()
    try:
        yaml.safe_dump(spec, stream, allow_unicode=True, encoding="utf-8")
    except (yaml.YAMLError, ValueError, UnicodeError):
        return
    path.write_bytes(stream.getvalue() + data)
    meet(path)


RAN = Path("/tmp/hostile_spec_ran")  # what a tag that ran would leave
TAGS = (
    f"!!python/object/apply:os.system ['touch {RAN}']",
    f"!!python/object/new:os.system ['touch {RAN}']",
    "!!python/name:os.system",
    "!!python/module:os",
    "!!python/tuple [1, 2]",
    "!anything {a: 1}",
)
TEXTS: dict[str, Callable[[], str]] = {
    **{f"tag {index}": lambda tag=tag: f"frames: {tag}\n" for index, tag in enumerate(TAGS)},  # type: ignore[misc]
    "tagged key": lambda: f"? {TAGS[0]}\n: 1\n",
    "anchors": lambda: "a: &a [x, x]\n" + "".join(f"b{i}: &b{i} [*a, *a]\n" for i in range(30)),
    "merge of itself": lambda: "a: &a\n  <<: *a\n",
    "deep flow": lambda: "frames: " + "[" * 90_000,
    "deep block": lambda: "".join(f"{' ' * i}a:\n" for i in range(1000)),
    "deep question marks": lambda: "? " * 45_000,
    "long key": lambda: "k" * 90_000 + ": 1\n",
    "many keys": lambda: "".join(f"k{i}: 1\n" for i in range(3_000)),
    "long number": lambda: "frames: " + "9" * 90_000 + "\n",
    "long hexadecimal number": lambda: "frames: 0x" + "f" * 90_000 + "\n",
    "long hexadecimal seed": lambda: "estimator: {seed: 0x" + "f" * 90_000 + "}\n",
    "long octal m": lambda: "estimator: {m: 0" + "7" * 90_000 + "}\n",
    "long base 60": lambda: "frames: 1" + ":59" * 30_000 + "\n",
    "large exponent": lambda: "max_failed: 1e999999999\n",
    "date": lambda: "frames: 2020-01-01\n",
    "no date": lambda: "frames: 2020-99-99 99:99:99\n",
    "many documents": lambda: "---\n" * 20_000,
    "null": lambda: "frames: \0\n",
    "half a surrogate": lambda: 'features: "\\ud800"\n',
    "escapes": lambda: 'features: "\\e[2J\\0"\n',
    "too long": lambda: "# " + "x" * 2_000_000,
    "keys that are no text": lambda: "{[1, 2]: 3}\n",
    "a key twice": lambda: "frames: 1\nframes: 2\n",
}


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.timeout(20)
def test_texts_made_to_harm(name: str, tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_bytes(("features: f\nmodel: m\noutput: o\n" * (name[0] != "?") + TEXTS[name]()).encode())
    meet(path)
    assert not RAN.exists()


@pytest.mark.parametrize("number", HUGE, ids=range(len(HUGE)))
@pytest.mark.parametrize("key", ["frames", "classes", "estimator.m", "estimator.seed", "compute.unit", "max_failed"])
def test_numbers_beyond_all_measure(key: str, number: float) -> None:
    outer, _, inner = key.partition(".")
    try:
        spec = load_spec({**GOOD, outer: {inner: number} if inner else number})
        fingerprint(job_keys(spec))
    except SpecError as error:
        one_line(error)
