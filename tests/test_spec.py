"""Job and training specs: what is taken, what it becomes, and in which words the rest is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fsspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from esv_ray.errors import DataError, EsvError, SpecError
from esv_ray.spec import ComputeSpec, EstimatorSpec, JobSpec, fingerprint, job_keys, load_spec
from esv_ray.spec_train import TrainSpec, load_train_spec
from esv_ray.spec_values import top_k
from tests.support.specs import SECTIONS, at

NEEDED = {"features": "/data/f", "model": "/data/m", "output": "/data/o"}
TEXT = "features: /data/f\nmodel: /data/m\noutput: /data/o\n"


def refusal(source: str | Mapping[str, Any] | None, *overrides: str, kind: type[EsvError] = SpecError) -> str:
    """The message, one line, with which a job spec is refused."""
    with pytest.raises(EsvError) as caught:
        load_spec(source, overrides)
    text = str(caught.value)
    assert text.splitlines() == [text], text
    assert type(caught.value) is kind, repr(caught.value)
    return text


# --- what is taken


def test_defaults() -> None:
    spec = load_spec(NEEDED)
    assert spec.model_dump() == {
        **NEEDED,
        "columns": {},
        "code": (),
        "frames": "all",
        "short": "all",
        "sampling": "uniform",
        "max_failed": 0.01,
        "unlabelled": (),
        "classes": ("label", "predicted"),
        "methods": ("esv",),
        "tables": (),
        "variations": {"offsets": (1, 2, 3), "shuffles": 8, "steps": 50},
        "estimator": {
            "kind": "auto",
            "m": 1024,
            "iterations": 4,
            "seed": 0,
            "tolerance": None,
            "max_iterations": 64,
            "output": "probability",
        },
        "compute": {
            "dtype": "float32",
            "batch": "auto",
            "threads": 1,
            "unit": "auto",
            "memory_budget": "auto",
            "matmul": "highest",
        },
        "cluster": {"address": None, "actors": "auto", "gpus_per_actor": "auto", "stall_timeout": 600.0},
    }


def test_a_spec_cannot_be_changed() -> None:
    spec = load_spec(NEEDED)
    with pytest.raises(ValidationError):
        spec.frames = (1,)
    with pytest.raises(ValidationError):
        spec.estimator.m = 1


OVERRIDES: list[tuple[str, str, object]] = [
    ("features", "/a/b c", "/a/b c"),
    ("model", "s3://bucket/model", "s3://bucket/model"),
    ("output", "/o", "/o"),
    ("columns.video_id", "id", "id"),
    ("columns.features", "observation.state", "observation.state"),
    ("columns.features", "null", None),
    ("columns.features", "features", None),
    ("columns.label", "'label '", "label "),
    ("columns.frame_index", "frames", "frames"),
    ("code", "my_models", ("my_models",)),
    ("code", "[my_models, company.zoo, my_models]", ("my_models", "company.zoo")),
    ("code", "null", ()),
    ("frames", "all", "all"),
    ("frames", "16", (16,)),
    ("frames", "[8]", (8,)),
    ("frames", "[4, 1, 2, 4]", (1, 2, 4)),
    ("frames", "[8, all, 4]", (4, 8, "all")),
    ("frames", "[all, all]", "all"),
    ("short", "skip", "skip"),
    ("sampling", "jittered", "jittered"),
    ("unlabelled", "[-1, 255]", (-1, 255)),
    ("unlabelled", "-1", (-1,)),
    ("unlabelled", "[255, -1]", (-1, 255)),
    ("unlabelled", "[-1, 255, -1, 255.0]", (-1, 255)),
    ("unlabelled", "[]", ()),
    ("max_failed", "0", 0.0),
    ("max_failed", "1", 1.0),
    ("max_failed", "1e-3", 0.001),
    ("classes", "all", ("all",)),
    ("classes", "label", ("label",)),
    ("classes", "predicted", ("predicted",)),
    ("classes", "top:5", ("top:5",)),
    ("classes", "7", (7,)),
    ("tables", "discards", ("discards",)),
    ("variations.offsets", "[3, 1, 3]", (1, 3)),
    ("variations.shuffles", "5", 5),
    ("variations.steps", "20", 20),
    ("methods", "[random, esv, occlusion]", ("esv", "occlusion", "random")),
    ("tables", "[discards, marginals, discards]", ("marginals", "discards")),
    ("tables", "[order, replacements, discards]", ("discards", "replacements", "order")),
    ("classes", "[0, label, top:3, 7]", (0, "label", "top:3", 7)),
    ("classes", "speaker 3", ("speaker 3",)),
    ("classes", "[predicted, speaker 3, speaker 3]", ("predicted", "speaker 3")),
    ("classes", '["Push [it], and go", top hat]', ("Push [it], and go", "top hat")),
    ("classes", '["3", 3, 3.0]', (3,)),
    ("estimator.kind", "exact", "exact"),
    ("estimator.kind", "algorithm1", "algorithm1"),
    ("estimator.m", "1", 1),
    ("estimator.iterations", "9", 9),
    ("estimator.seed", "-3", -3),
    ("estimator.tolerance", "0.05", 0.05),
    ("estimator.tolerance", "null", None),
    ("estimator.max_iterations", "8", 8),
    ("estimator.output", "probability", "probability"),
    ("compute.dtype", "float64", "float64"),
    ("compute.batch", "4", 4),
    ("compute.batch", "auto", "auto"),
    ("compute.threads", "2", 2),
    ("compute.unit", "100", 100),
    ("compute.memory_budget", "1000000", 1_000_000),
    ("compute.memory_budget", "auto", "auto"),
    ("compute.memory_budget", "1GB", 10**9),
    ("compute.memory_budget", "500 MB", 5 * 10**8),
    ("compute.memory_budget", "1.5GiB", 3 * 2**29),
    ("compute.memory_budget", "2g", 2 * 10**9),
    ("compute.matmul", "medium", "medium"),
    ("cluster.address", "ray://head:10001", "ray://head:10001"),
    ("cluster.address", "null", None),
    ("cluster.actors", "3", 3),
    ("cluster.actors", "0", 0),
    ("cluster.actors", "auto", "auto"),
    ("cluster.gpus_per_actor", "0.5", 0.5),
    ("cluster.gpus_per_actor", "auto", "auto"),
    ("cluster.stall_timeout", "2.5", 2.5),
    ("cluster.stall_timeout", "null", None),
]


@pytest.mark.parametrize(("key", "text", "value"), OVERRIDES)
def test_every_key_can_be_set(key: str, text: str, value: object) -> None:
    spec = load_spec(NEEDED, [f"{key}={text}"])
    assert at(spec, key) == value
    assert type(at(spec, key)) is type(value)


def test_every_key_is_among_those_set_above() -> None:
    keys = {key for key in JobSpec.model_fields if key not in SECTIONS}
    keys |= {f"{section}.{key}" for section, kind in SECTIONS.items() for key in kind.model_fields}
    assert keys == {key for key, _, _ in OVERRIDES}


def test_overrides_alone_make_a_spec() -> None:
    assert load_spec(None, [f"{key}={value}" for key, value in NEEDED.items()]) == load_spec(NEEDED)


def test_overrides_go_before_the_file_and_later_ones_before_earlier_ones(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(TEXT + "frames: 8\nestimator:\n  m: 64\n  seed: 5\n")
    spec = load_spec(str(path), ["estimator.m=1", " estimator.m = 2 ", "frames=[3]", "features=/x=y"])
    assert (spec.estimator.m, spec.estimator.seed, spec.frames, spec.features) == (2, 5, (3,), "/x=y")
    replaced = load_spec(str(path), ["estimator={kind: exact}", "estimator.iterations=2"])
    assert replaced.estimator == EstimatorSpec(kind="exact", iterations=2)


def test_a_mapping_is_left_as_it_is() -> None:
    source = {**NEEDED, "estimator": {"m": 3}}
    assert load_spec(source, ["estimator.m=4", "frames=2", "compute.unit=7"]).estimator.m == 4
    assert source == {**NEEDED, "estimator": {"m": 3}}


@pytest.mark.parametrize("frames", [4, [4], (4,), [4, 4]])
def test_forms_of_frames(frames: object) -> None:
    assert load_spec({**NEEDED, "frames": frames}).frames == (4,)


# --- files


@pytest.mark.parametrize("text", [TEXT, "\ufeff" + TEXT, TEXT.replace("\n", "\r\n"), "# a job\n---\n" + TEXT])
def test_a_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "job.yaml"
    path.write_bytes(text.encode())
    assert load_spec(str(path)) == load_spec(NEEDED)


def test_a_file_elsewhere(tmp_path: Path) -> None:
    fsspec.filesystem("memory").pipe_file(f"/{tmp_path.name}.yaml", TEXT.encode())
    try:
        assert load_spec(f"memory://{tmp_path.name}.yaml") == load_spec(NEEDED)
    finally:
        fsspec.filesystem("memory").rm(f"/{tmp_path.name}.yaml")


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (TEXT + "classes: [label\n", ("not valid YAML", "line 5")),
        ("\tfeatures: f\n", ("not valid YAML", "line 1")),
        (TEXT + "---\n" + TEXT, ("not valid YAML", "document")),
        ("a\0b", ("not valid YAML",)),
        (b"\xff\xfe\x00", ("not valid YAML",)),
        ("features: !!python/object/apply:os.getcwd []\n", ("line 1", "python/object/apply")),
        ("features: !!timestamp 2020-01-01\n", ("line 1", "!!timestamp", "remove the tag")),
        ("features: " + "[" * 1100 + "]" * 1100, ("nested at most 20 levels",)),
        ("frames: " + "9" * 5000, ("not valid YAML",)),
        ("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", ("aliases", "*name")),
        ("- features\n", ("key: value", "got a list")),
        ("features", ("key: value", "got 'features'")),
        ("", ("key: value", "got nothing")),
        ("1: 2\n", ("key: value",)),
    ],
)
def test_files_that_are_no_spec_are_refused(tmp_path: Path, content: str | bytes, parts: tuple[str, ...]) -> None:
    path = tmp_path / "job.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    text = refusal(str(path))
    assert text.startswith(f"{path}: ")
    assert all(part in text for part in parts), text


def test_an_alias_bomb_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 8)}]" for i in range(1, 30)]
    path.write_text("\n".join(lines))
    assert "aliases" in refusal(str(path))


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    none = str(tmp_path / "none.yaml")
    text = refusal(none, kind=DataError)
    assert none in text
    assert "not found" in text
    assert str(tmp_path) in refusal(str(tmp_path), kind=DataError)


def test_the_file_is_named_in_every_refusal(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(TEXT + "frames: 0\n")
    assert refusal(str(path)).startswith(f"{path}: frames: ")


# --- where things lie


def test_relative_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    spec = load_spec({"features": "a/*.parquet", "model": "./b/", "output": "o"})
    assert spec.features == f"{tmp_path}/a/*.parquet"
    assert Path(spec.model) == tmp_path / "b"
    assert spec.output == f"{tmp_path}/o"
    monkeypatch.setenv("HOME", "/home/someone")
    assert load_spec({**NEEDED, "model": "~/m"}).model == "/home/someone/m"
    assert load_spec({**NEEDED, "model": f"file://{tmp_path}/m"}).model == f"{tmp_path}/m"


@pytest.mark.parametrize("url", ["s3://bucket/a/b", "memory://a/b", "s3://bucket/a/*.parquet"])
def test_other_locations_lose_a_slash_at_the_end_only(url: str) -> None:
    spec = load_spec({"features": url, "model": f"{url}/", "output": f"{url}/"})
    assert spec.features == spec.model == spec.output == url


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("nosuch://a/b", ("nosuch", "path or an fsspec URL")),
        ("s3://key:secret@host/a", ("credentials", "environment")),
        pytest.param(
            "s3://[bucket/a",
            (),
        ),
        pytest.param(
            "github://a",
            (),
        ),
        pytest.param(
            "zip://a",
            (),
        ),
    ],
)
def test_locations_that_are_none_are_refused(url: str, parts: tuple[str, ...]) -> None:
    for key in ("features", "model", "output"):
        text = refusal({**NEEDED, key: url})
        assert "secret" not in text
        assert all(part in text for part in parts), text


# --- keys


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("feature", "features"),
        ("frame", "frames"),
        ("modle", "model"),
        ("outputs", "output"),
        ("max_fail", "max_failed"),
        ("class", "classes"),
        ("estimtor", "estimator"),
        ("clusters", "cluster"),
        ("estimator.mm", "estimator.m"),
        ("estimator.kinds", "estimator.kind"),
        ("estimator.iteration", "estimator.iterations"),
        ("estimator.sed", "estimator.seed"),
        ("compute.dtyp", "compute.dtype"),
        ("compute.thread", "compute.threads"),
        ("cluster.adress", "cluster.address"),
        ("cluster.actor", "cluster.actors"),
        ("m", "estimator.m"),
        ("seed", "estimator.seed"),
        ("memory_budget", "compute.memory_budget"),
        ("cluster.threads", "compute.threads"),
        ("estimator.frames", "frames"),
    ],
)
def test_an_unknown_key_is_told_the_nearest(key: str, meant: str) -> None:
    text = refusal(NEEDED, f"{key}=1")
    assert f"unknown key {key!r}" in text
    assert f"did you mean {meant!r}?" in text


def test_an_unknown_key_like_no_other_is_told_all() -> None:
    text = refusal(NEEDED, "xyzzy=1")
    assert "unknown key 'xyzzy'" in text
    assert all(key in text for key in JobSpec.model_fields)
    text = refusal(NEEDED, "compute.xyzzy=1")
    assert "unknown key 'compute.xyzzy'" in text
    assert all(key in text for key in ComputeSpec.model_fields)


@pytest.mark.parametrize("key", ["int", "str_key", "literal", "function", "constrained", "estimator.int"])
def test_an_unknown_key_may_have_any_name(key: str) -> None:
    assert f"unknown key {key!r}" in refusal(NEEDED, f"{key}=1")


@pytest.mark.parametrize("key", NEEDED)
def test_a_missing_key_is_named(key: str) -> None:
    assert f"key {key!r} is missing" in refusal({name: url for name, url in NEEDED.items() if name != key})


def test_keys_that_are_no_text_are_refused() -> None:
    wrong: list[dict[Any, Any]] = [{1: 2}, {"estimator": {1: 2}}, {"estimator": {None: 2}}]
    for keys in wrong:
        assert "string" in refusal(NEEDED | keys)


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("frames", ("key=value", "'frames'")),
        ("", ("key=value", "''")),
        ("=3", ("key=value", "'=3'")),
        ("a..b=3", ("key=value", "'a..b=3'")),
        ("estimator.m=[", ("estimator.m", "not valid YAML")),
        ("estimator.m=*a", ("estimator.m", "aliases", "quotes")),
        ("features=!!python/name:os.system", ("features", "python/name", "remove the tag")),
        ("features.x=3", ("features", "'features'", "not a mapping")),
        pytest.param(
            "a\rb=[",
            (),
        ),
        pytest.param(
            "frames=!!timestamp 2020-13-99",
            ("frames",),
        ),
        pytest.param(
            "frames=!!int x",
            ("frames",),
        ),
        pytest.param(
            "frames=" + "9" * 5000,
            ("frames",),
        ),
        pytest.param(
            "frames=" + "[" * 1100,
            ("frames",),
        ),
    ],
)
def test_overrides_that_are_none_are_refused(override: str, parts: tuple[str, ...]) -> None:
    text = refusal(NEEDED, override)
    assert text.startswith("--set")
    assert all(part in text for part in parts), text


# --- values


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("features", 5, "string"),
        ("features", None, "string"),
        ("model", ["a"], "string"),
        ("output", {"a": 1}, "string"),
        ("frames", 0, ">= 1"),
        ("frames", -2, ">= 1"),
        ("frames", 1.5, "numbers"),
        ("frames", True, "numbers"),
        ("frames", None, "numbers"),
        ("frames", "16", "numbers"),
        ("frames", "ALL", "`all`"),
        ("frames", [], "list of numbers"),
        ("frames", [4, 0], ">= 1"),
        ("frames", [4, "every"], "numbers"),
        ("frames", {"n": 4}, "numbers"),
        ("short", "keep", "'all' or 'skip'"),
        ("short", False, "'all' or 'skip'"),
        ("code", "my_models:make", "names of Python packages"),
        ("code", ["my_models", 3], "names of Python packages"),
        ("code", {"my_models": True}, "names of Python packages"),
        ("code", "../my_models", "names of Python packages"),
        ("unlabelled", True, "a whole number"),
        ("unlabelled", [-1, 0.5], "a whole number"),
        ("unlabelled", ["none"], "a whole number"),
        ("unlabelled", None, "a whole number"),
        ("max_failed", 1.5, "less than or equal to 1"),
        ("max_failed", -0.1, "greater than or equal to 0"),
        ("max_failed", float("nan"), "0"),
        ("max_failed", "few", "number"),
        ("max_failed", None, "number"),
        ("classes", [], "at least one of label, predicted, top:K, all, or class ids or names"),
        ("classes", " ", "label, predicted, top:K, all, or class ids or names"),
        ("classes", ["label", "top:0"], "label, predicted, top:K, all, or class ids or names"),
        ("classes", "top:x", "top:K"),
        ("classes", "top:", "top:K"),
        ("classes", -1, ">= 0"),
        ("estimator.kind", "adjust", "'auto', 'exact', 'algorithm1' or 'adjusted'"),
        ("estimator.m", 0, "greater than or equal to 1"),
        ("estimator.m", 2.5, "a whole number"),
        ("estimator.m", "2", "a whole number"),
        ("estimator.m", True, "a whole number"),
        ("estimator.m", None, "a whole number"),
        ("estimator.iterations", 0, "greater than or equal to 1"),
        ("estimator.seed", 1.5, "a whole number"),
        ("estimator.tolerance", 0, "greater than 0"),
        ("estimator.max_iterations", 0, "1"),
        ("estimator.output", "odds", "'probability'"),
        ("compute.dtype", "float16", "'float32' or 'float64'"),
        ("compute.batch", 0, "greater than or equal to 1"),
        ("compute.threads", 0, "greater than or equal to 1"),
        ("compute.unit", -5, "greater than or equal to 1"),
        ("cluster.address", 5, "string"),
        ("cluster.actors", -1, "greater than or equal to 0"),
        ("cluster.actors", 1.5, "a whole number or auto"),
        ("cluster.gpus_per_actor", 1.5, "less than or equal to 1"),
        ("cluster.gpus_per_actor", True, "from 0 to 1 or auto"),
        ("cluster.gpus_per_actor", "many", "from 0 to 1 or auto"),
        ("cluster.address", "http://head:8265", "expected auto, HOST:PORT or ray://HOST:PORT, got 'http://head:8265'"),
        ("cluster.stall_timeout", 0, "greater than 0"),
        ("cluster.stall_timeout", True, "number"),
        pytest.param(
            "max_failed",
            True,
            "number",
        ),
        pytest.param(
            "compute.batch",
            "all",
            "auto",
        ),
        pytest.param(
            "cluster.actors",
            "many",
            "auto",
        ),
        pytest.param(
            "classes",
            None,
            "label",
        ),
        *(("classes", [value], "put a name that is no text to YAML in quotes") for value in (True, None, [0])),
        ("classes", 1.5, "class ids"),
        pytest.param(
            "classes",
            "top:" + "9" * 20,
            "top:K",
        ),
    ],
)
def test_a_value_that_is_none_is_told_where_what_and_instead_of_what(key: str, value: object, expected: str) -> None:
    section, _, name = key.rpartition(".")
    source: dict[str, Any] = {**NEEDED, section: {name: value}} if section else {**NEEDED, name: value}
    text = refusal(source)
    where, _, rest = text.removeprefix("spec: ").partition(": ")
    assert where.split(".")[: key.count(".") + 1] == key.split(".")
    assert rest.startswith(("expected ", "a class id is "))
    assert expected in rest
    many = ("classes", "code", "frames", "unlabelled")
    got = value[-1] if isinstance(value, list) and value and key in many else value
    assert f"got {got!r}" in rest or f"got {value!r}" in rest


@pytest.mark.parametrize("value", ["exact", 5, []])
def test_a_section_that_is_no_mapping_is_refused_in_terms_of_the_spec(value: object) -> None:
    text = refusal({**NEEDED, "estimator": value})
    assert "estimator" in text
    assert "EstimatorSpec" not in text


def test_an_empty_section_is_its_defaults(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(TEXT + "estimator:\n#  m: 1024\n")
    assert load_spec(str(path)) == load_spec(NEEDED)
    assert load_spec(str(path), ["estimator.m=3"]).estimator.m == 3


@pytest.mark.parametrize(
    ("choice", "count"),
    [
        ("top:1", 1),
        ("top:12", 12),
        *(
            (text, None)
            for text in ("top:0", "top:", "top:-1", "top:1.5", "top", "top:3:4", "top: 3", "top:²", "label")
        ),
    ],
)
def test_top_k(choice: str, count: int | None) -> None:
    assert top_k(choice) == count


# --- what results depend on


def keys_of(*overrides: str) -> dict[str, object]:
    return job_keys(load_spec(NEEDED, overrides))


def test_order_and_repeats_of_unlabelled_make_no_other_job() -> None:
    once = keys_of("unlabelled=[-1, 255]")
    assert keys_of("unlabelled=[255, -1]") == keys_of("unlabelled=[-1, 255, -1]") == once
    training = {"features": "f", "output": "o"}
    assert load_train_spec(training, ["unlabelled=[255, -1, 255]"]).unlabelled == (-1, 255)


@pytest.mark.parametrize(
    ("key", "text", "meant"),
    [
        ("unlabelled", "-1,255", "[-1, 255]"),
        ("unlabelled", "-1 255", "[-1, 255]"),
        ("unlabelled", "(-1, 255)", "[-1, 255]"),
        ("frames", "4,8", "[4, 8]"),
        ("classes", "label,top:3", "[label, top:3]"),
        ("code", "my_models, company.zoo", "[my_models, company.zoo]"),
    ],
)
def test_several_values_without_brackets_are_told_how_a_list_is_written(key: str, text: str, meant: str) -> None:
    assert refusal(NEEDED, f"{key}={text}").startswith(
        f"spec: {key}: expected one value, or a list in brackets ({meant})"
    )
    assert refusal({**NEEDED, key: text}).endswith(f", got {text!r}")
    assert load_spec(NEEDED, [f"{key}={meant}"])
    if key == "unlabelled":
        with pytest.raises(SpecError, match=re.escape(meant)):
            load_train_spec({"features": "f", "output": "o"}, [f"{key}={text}"])


def test_a_long_text_of_several_values_is_cut() -> None:
    assert len(refusal(NEEDED, f"unlabelled={'7,' * 9000}")) < 300


def test_the_keys_of_a_job_are_flat_and_plain() -> None:
    keys = keys_of("frames=[4, 2]", "classes=[label, 3]")
    assert keys == {
        "features": "/data/f",
        "frames": [2, 4],
        "unlabelled": [],
        "short": "all",
        "classes": ["label", 3],
        "methods": ["esv"],
        "tables": [],
        "variations.offsets": [1, 2, 3],
        "variations.shuffles": 8,
        "variations.steps": 50,
        "estimator.kind": "auto",
        "estimator.m": 1024,
        "estimator.iterations": 4,
        "estimator.seed": 0,
        "estimator.tolerance": None,
        "estimator.max_iterations": 64,
        "estimator.output": "probability",
        "compute.dtype": "float32",
        "compute.batch": "auto",
        "compute.threads": 1,
        "compute.unit": "auto",
        "compute.memory_budget": "auto",
        "compute.matmul": "highest",
    }
    assert json.loads(json.dumps(keys)) == keys


@pytest.mark.parametrize(
    "override",
    [
        "features=/other",
        "frames=8",
        "short=skip",
        "classes=all",
        "estimator.kind=exact",
        "estimator.m=7",
        "estimator.iterations=2",
        "estimator.seed=1",
        "compute.dtype=float64",
        "compute.batch=2",
        "compute.threads=2",
        "compute.unit=9",
        "compute.memory_budget=5",
        "compute.matmul=high",
    ],
)
def test_what_results_depend_on_changes_the_fingerprint(override: str) -> None:
    changed, keys = keys_of(override), keys_of()
    assert fingerprint(changed) != fingerprint(keys)
    assert {key for key in keys if changed[key] != keys[key]} == {override.partition("=")[0]}


@pytest.mark.parametrize(
    "override",
    [
        "output=/other",
        "model=/other",
        "max_failed=1",
        "cluster.actors=3",
        "cluster.address=ray://head:10001",
        "cluster.stall_timeout=5",
    ],
)
def test_what_no_result_depends_on_leaves_it(override: str) -> None:
    assert fingerprint(keys_of(override)) == fingerprint(keys_of())


def test_other_columns_are_another_job() -> None:
    assert keys_of("columns.features=x") == {**keys_of(), "columns.features": "x"}
    assert keys_of("columns={features: x, label: y}") == keys_of("columns.label=y", "columns.features=x")


@pytest.mark.parametrize(
    "override",
    ["columns={}", "columns=null", "columns.label=null", "columns.label=label", "columns={features: features}"],
)
def test_no_other_columns_are_the_job_of_always(override: str) -> None:
    """Outputs from before the key have no such key in their run.json."""
    assert keys_of(override) == keys_of()
    assert not [key for key in keys_of(override) if key.startswith("columns")]
    assert load_spec(NEEDED, [override]).model_dump(mode="json")["columns"] == {}


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("columns.feature=x", ("unknown key 'columns.feature'", "did you mean 'columns.features'?")),
        ("columns.xyzzy=x", ("unknown key 'columns.xyzzy'", "valid keys: video_id, features, label, frame_index")),
        ("columns.label=3", ("columns.label: expected a string, got 3; put it in quotes",)),
        ("columns.label=''", ("columns.label: expected a text, got ''",)),
        ("columns.label='  '", ("columns.label: expected a text, got '  '",)),
        ("columns.label=[a]", ("columns.label: expected a string, got ['a']",)),
        ("columns=id", ("columns: expected a mapping (nested keys), got 'id'",)),
        (
            "columns={features: a, label: a}",
            ("columns: expected another column for each key", "'a' for features and for"),
        ),
        ("columns.video_id=label", ("columns: expected another column", "got 'label' for video_id and for label")),
    ],
)
def test_names_of_columns_that_are_none_are_refused(override: str, parts: tuple[str, ...]) -> None:
    for text in (refusal(NEEDED, override), refusal_of_training(override)):
        assert all(part in text for part in parts), text


def refusal_of_training(override: str) -> str:
    with pytest.raises(SpecError) as caught:
        load_train_spec({"features": "f", "output": "o"}, [override])
    return str(caught.value)


def test_columns_may_swap_their_names() -> None:
    columns = load_spec(NEEDED, ["columns={video_id: label, label: video_id}"]).columns
    assert (columns.name_of("video_id"), columns.name_of("label")) == ("label", "video_id")
    assert JobSpec.model_validate(load_spec(NEEDED, ["columns.label=y"]).model_dump(mode="json")).columns.label == "y"


def test_another_spelling_leaves_the_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fingerprint(keys_of("frames=4")) == fingerprint(keys_of("frames=[4, 4]"))
    assert fingerprint(keys_of("classes=label")) == fingerprint(keys_of("classes=[label]"))
    assert fingerprint(keys_of("features=/data/f/")) == fingerprint(keys_of())
    assert fingerprint(keys_of("estimator.m=1024")) == fingerprint(keys_of())
    monkeypatch.chdir(tmp_path)
    assert fingerprint(keys_of("features=f")) == fingerprint(keys_of(f"features={tmp_path}/f"))


def test_a_fingerprint_is_a_hash_of_the_keys_in_any_order() -> None:
    keys = keys_of()
    assert fingerprint(dict(reversed(keys.items()))) == fingerprint(keys)
    assert fingerprint({**keys, "model": "hash"}) != fingerprint(keys)
    assert len(fingerprint(keys)) == 32
    # Recorded: a change here makes every old output a foreign one.
    assert fingerprint({"estimator.m": 1024, "frames": [8]}) == "0f216fe7105f0d5a8e5c26191fc13d99"


# --- trainings


def test_a_training_spec() -> None:
    spec = load_train_spec(
        {"features": "/f", "output": "/o"}, ["validation=/v.parquet", "hidden=64", "learning_rate=1e-4"]
    )
    assert spec == TrainSpec(features="/f", output="/o", validation="/v.parquet", hidden=64, learning_rate=1e-4)
    assert load_train_spec({"features": "f", "output": "o"}).validation == 0.1


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("epoch=3", ("unknown key 'epoch'", "did you mean 'epochs'?")),
        ("model=x", ("unknown key 'model'",)),
        ("hidden_layers=-1", ("hidden_layers", "greater than or equal to 0", "-1")),
        ("validation=1.0", ("validation", "less than 1", "1.0")),
        ("validation=0", ("validation", "greater than 0", "0")),
        ("dropout=1", ("dropout", "less than 1")),
        ("input_relu=1", ("input_relu", "true or false")),
        ("n_classes=0", ("n_classes", "greater than or equal to 1")),
        pytest.param(
            "learning_rate=.inf",
            ("learning_rate",),
        ),
        pytest.param(
            "weight_decay=.inf",
            ("weight_decay",),
        ),
    ],
)
def test_training_specs_that_are_none_are_refused(override: str, parts: tuple[str, ...]) -> None:
    with pytest.raises(SpecError) as caught:
        load_train_spec({"features": "f", "output": "o"}, [override])
    assert str(caught.value).splitlines() == [str(caught.value)]
    assert all(part in str(caught.value) for part in parts), str(caught.value)


# --- anything at all

KEYS = [*JobSpec.model_fields, *(key for kind in SECTIONS.values() for key in kind.model_fields)]
WORDS = [
    "all",
    "label",
    "predicted",
    "top:3",
    "auto",
    "exact",
    "skip",
    "probability",
    "float64",
    "s3://b/k",
    "~/x",
    ".",
]
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.binary(max_size=4),
    st.dates(),
    st.sampled_from(WORDS),
)
names = st.one_of(st.sampled_from(KEYS), st.sampled_from(KEYS).map(lambda key: key + "s"), st.text(max_size=8))
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(names, st.integers(), st.none()), inner, max_size=4),
        st.frozensets(st.integers(), max_size=3),
    ),
    max_leaves=8,
)
specs = st.builds(
    lambda needed, rest: {**needed, **rest},
    st.sampled_from([{}, NEEDED]),
    st.dictionaries(st.one_of(names, st.integers()), values, max_size=5),
)


def outcome(source: Mapping[str, Any], overrides: list[str]) -> JobSpec | EsvError:
    try:
        return load_spec(source, overrides)
    except EsvError as error:
        return error


@settings(max_examples=150, deadline=None)
@given(specs, st.lists(st.tuples(names, scalars), max_size=2))
@example({**NEEDED, "estimator": None}, [])
@example({**NEEDED, "frames": [True]}, [])
@example({**NEEDED, "classes": {"label"}}, [])
@example({**NEEDED, "features": b"bytes"}, [])
def test_anything_is_a_spec_or_refused_in_one_line(source: dict[Any, Any], more: list[tuple[str, object]]) -> None:
    result = outcome(source, [f"{name}={value}" for name, value in more])
    if isinstance(result, EsvError):
        assert len(str(result).splitlines()) == 1
    else:
        assert len(fingerprint(job_keys(result))) == 32
        assert load_spec(result.model_dump()) == result
