"""run.json and _SUCCESS: what is written is read back, another job is refused, what is not ours is named."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from esv_ray import storage
from esv_ray.errors import DataError, JobError
from esv_ray.input.files import InputFile
from esv_ray.input.units import RowRange, Unit
from esv_ray.output.manifest import Manifest, check_same_job, checksum_of, commit_manifest, read_manifest
from esv_ray.output.success import commit_success, read_success
from esv_ray.output.unit_files import NO_COUNTS, UnitCounts
from esv_ray.spec import fingerprint, job_keys, load_spec
from tests.support.units import one_range

MODEL: dict[str, Any] = {
    "digest": "0123abcd",
    "feature_dim": 4,
    "n_classes": 2,
    "n_max": 8,
    "prior": [0.25, 0.75],
    "classes": None,
}
A = InputFile("s3://bucket/features/a.parquet", 1000, "etag-a")
B = InputFile("s3://bucket/features/b.parquet", 2000, "etag-b")


@pytest.fixture(params=["disk", "memory"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty place for an output."""
    return str(tmp_path / "out") if request.param == "disk" else f"memory://{uuid.uuid4().hex}"


def make_manifest(**overrides: Any) -> Manifest:
    """A manifest as the planner makes it."""
    spec = load_spec(
        {"features": "f", "model": "m", "output": "o", "frames": [8, 2], "classes": ["label", 3], **overrides}
    )
    keys = {**job_keys(spec), "model": "0123abcd"}
    return Manifest(
        spec=spec.model_dump(mode="json"),
        keys=keys,
        fingerprint=fingerprint(keys),
        versions={"python": "3.11"},
        model=MODEL,
        files=(A, B),
        units=tuple(
            one_range(*rows)
            for rows in ((0, A, 0, 0, 5, 0), (1, A, 0, 5, 7, 5), (2, A, 1, 0, 4, 7), (3, B, 0, 0, 6, 0))
        ),
    )


# run.json -------------------------------------------------------------------------------------------------------------


def test_a_manifest_comes_back_whole(output: str) -> None:
    manifest = make_manifest()
    assert commit_manifest(output, manifest)
    assert read_manifest(output) == manifest
    assert [unit.name for unit in manifest.units] == [
        unit.name for unit in (read_manifest(output) or make_manifest(frames=1)).units
    ]
    assert manifest.rows == 17


def test_a_unit_of_several_files_comes_back_whole(output: str) -> None:
    """In a format that an older version refuses; a plan without such units is as older versions read it."""
    files = tuple(InputFile(f"/{name}.parquet", 1, "v") for name in "abc")
    joined = tuple(RowRange(file, 0, 0, 1, 0) for file in files[:2])
    manifest = replace(make_manifest(), files=files, units=(Unit(0, joined), one_range(1, files[2], 0, 0, 5, 0)))
    assert commit_manifest(output, manifest)
    assert read_manifest(output) == manifest
    content = json.loads(storage.read_bytes(f"{output}/run.json", "read"))
    assert (content["format"], content["units"]) == (5, [[[0, 0, 0, 1, 0], [1, 0, 0, 1, 0]], [2, 0, 0, 5, 0]])
    commit_manifest(f"{output}/other", make_manifest())
    assert json.loads(storage.read_bytes(f"{output}/other/run.json", "read"))["format"] == 4


def test_there_is_none_yet(output: str) -> None:
    assert read_manifest(output) is None
    storage.replace(f"{output}/other", b"", "write")
    assert read_manifest(output) is None


def test_the_first_manifest_stays(output: str) -> None:
    first, second = make_manifest(frames=4), make_manifest(frames=5)
    assert commit_manifest(output, first)
    assert not commit_manifest(output, second)
    assert read_manifest(output) == first


def test_the_contract_of_run_json(output: str) -> None:
    """The spec, its fingerprint, versions, the model's hash, the partition plan."""
    commit_manifest(output, make_manifest())
    content = json.loads(storage.read_bytes(f"{output}/run.json", "read"))
    assert content["spec"]["frames"] == [2, 8]
    assert content["fingerprint"] == make_manifest().fingerprint
    assert content["versions"] == {"python": "3.11"}
    assert content["model"]["digest"] == "0123abcd"
    assert len(content["files"]) == 2
    assert len(content["units"]) == 4


WHOLE: dict[str, Any] = {
    "format": 4,
    "spec": load_spec({"features": "/f", "model": "/m", "output": "/o"}).model_dump(mode="json"),
    "keys": {"model": "d"},
    "fingerprint": fingerprint({"model": "d"}),
    "versions": {},
    "model": {**MODEL, "digest": "d"},
    "files": [["a", 1, "v", "footer", {"label": "3"}]],
    "units": [[0, 0, 0, 5, 0]],
}


MODELS: list[dict[str, Any]] = [
    {"prior": [float("nan"), 0.5]},
    {"prior": [float("inf"), 0.5]},
    {"prior": [0.5, 0.4]},
    {"prior": [1.5, -0.5]},
    {"prior": ["0.5", 0.5]},
    {"prior": []},
    {"prior": {"0": 1.0}},
    {"prior": [0.5, 0.5], "classes": ["one"]},
    {"digest": "e"},
    {"n_classes": 3},
    {"n_max": "x"},
    {"feature_dim": 0},
]
"""Not what a bundle says."""


def keys_only(keys: dict[str, Any]) -> bytes:
    """A run.json whose keys, with their fingerprint, are not those of its spec."""
    return json.dumps({**WHOLE, "keys": keys, "fingerprint": fingerprint(keys)}).encode()


def signed(content: bytes) -> bytes:
    """The content with its checksum, as far as it is a mapping: what is refused must not be refused for that alone."""
    try:
        values = json.loads(content)
        return json.dumps({**values, "checksum": checksum_of(values)}).encode()
    except (ValueError, TypeError, RecursionError):
        return content


def test_the_whole_content_is_readable(output: str) -> None:
    """Or the refusals below would prove nothing."""
    storage.replace(f"{output}/run.json", signed(json.dumps(WHOLE).encode()), "write")
    manifest = read_manifest(output)
    assert manifest is not None
    assert manifest.units == (one_range(0, InputFile("a", 1, "v", directories=(("label", "3"),)), 0, 0, 5, 0),)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe\x00binary",
        b"[]",
        b"7",
        b"null",
        b'"text"',
        b"{}",
        *[json.dumps({key: value for key, value in WHOLE.items() if key != left_out}).encode() for left_out in WHOLE],
        json.dumps({**WHOLE, "files": [["a", 1]]}).encode(),
        json.dumps({**WHOLE, "files": 3}).encode(),
        json.dumps({**WHOLE, "files": [["a", 1, "v", "footer", {"label": " "}]]}).encode(),
        json.dumps({**WHOLE, "files": [["a", 1, "v", "footer", {"features": "3"}]]}).encode(),
        json.dumps({**WHOLE, "units": [[0, 0, 0, 5]]}).encode(),
        json.dumps({**WHOLE, "units": [[1, 0, 0, 5, 0]]}).encode(),
        json.dumps({**WHOLE, "units": [["a", 0, 0, 5, 0]]}).encode(),
        json.dumps({**WHOLE, "units": [7]}).encode(),
        json.dumps({**WHOLE, "units": [[0, 0, 0, 2**63, 0]]}).encode(),
        json.dumps({**WHOLE, "units": [[0, 0, 0, True, 0]]}).encode(),
        json.dumps({**WHOLE, "spec": {"classes": ["label"]}}).encode(),
        json.dumps({**WHOLE, "spec": {**WHOLE["spec"], "estimator": {"output": "odds"}}}).encode(),
        json.dumps({**WHOLE, "spec": {**WHOLE["spec"], "classes": 7.5}}).encode(),
        json.dumps({**WHOLE, "spec": {**WHOLE["spec"], "columns": {"features": "x"}}}).encode(),
        json.dumps({**WHOLE, "spec": {**WHOLE["spec"], "columns": {"features": "label"}}}).encode(),
        json.dumps({**WHOLE, "spec": {**WHOLE["spec"], "columns": {"features": 3}}}).encode(),
        keys_only({"model": "d", "columns.features": "x"}),
        json.dumps({**WHOLE, "keys": {"model": "d", "frames": [3]}}).encode(),
        json.dumps({**WHOLE, "keys": {"model": "d", "more": 1}}).encode(),
        json.dumps({**WHOLE, "fingerprint": "another"}).encode(),
        json.dumps({**WHOLE, "memory_budget": -1}).encode(),
        *[json.dumps({**WHOLE, "model": {**WHOLE["model"], **model}}).encode() for model in MODELS],
        *[
            json.dumps({**WHOLE, "units": units}).encode()
            for units in (
                [[0, 0, 1, 5, 1]],
                [[0, 0, 0, 5, 1]],
                [[0, 0, 0, 5, 0], [0, 0, 6, 9, 6]],
                [[0, 0, 0, 5, 0], [0, 0, 4, 9, 4]],
                [[0, 1, 0, 5, 0], [0, 0, 0, 5, 5]],
                [[0, 0, 0, 5, 0], [0, 1, 2, 5, 5]],
                [[0, 0, 0, 5, 0], [0, 1, 0, 5, 7]],
            )
        ],
        b"[" * 100_000,
        b'{"spec": ' * 100_000,
        json.dumps(WHOLE).encode()[:-9],
        json.dumps(WHOLE).replace('"v"', "NaN").encode(),
        b"9" * 5000,
    ],
    ids=lambda content: content.decode("latin-1")[:30],
)
def test_a_broken_or_foreign_manifest_is_refused_in_one_line(output: str, content: bytes) -> None:
    storage.replace(f"{output}/run.json", signed(content), "write")
    with pytest.raises(DataError) as caught:
        read_manifest(output)
    message = str(caught.value)
    assert "checksum" not in message
    assert message.startswith(f"{output}/run.json: expected a job's manifest, got something else (")
    assert "\n" not in message


def test_a_manifest_that_was_changed_by_accident_is_refused(output: str) -> None:
    """Its last unit is lost, say: what is left is a sound plan, of fewer videos."""
    commit_manifest(output, make_manifest())
    content = json.loads(storage.read_bytes(f"{output}/run.json", "read"))
    content["units"] = content["units"][:-1]
    storage.replace(f"{output}/run.json", json.dumps(content).encode(), "write")
    with pytest.raises(DataError, match="its checksum does not match its content"):
        read_manifest(output)


def test_a_manifest_of_another_format_is_refused(output: str) -> None:
    storage.replace(f"{output}/run.json", json.dumps({**WHOLE, "format": 6}).encode(), "write")
    with pytest.raises(DataError) as caught:
        read_manifest(output)
    assert str(caught.value) == f"{output}/run.json: expected format 4 or 5, got 6; use the version that wrote it"


# The same job ---------------------------------------------------------------------------------------------------------


def refusal(manifest: Manifest, other: Manifest) -> str:
    with pytest.raises(JobError) as caught:
        check_same_job(manifest, other.keys, other.files, "out")
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_the_same_job_goes_on() -> None:
    check_same_job(make_manifest(), make_manifest().keys, (B, A), "out")


@pytest.mark.parametrize(
    "free",
    [
        {"output": "elsewhere"},
        {"max_failed": 1.0},
        {"cluster": {"actors": 3}},
        {"model": "moved"},
        {"code": ["my_models"]},
    ],
)
def test_what_changes_no_result_is_no_other_job(free: dict[str, Any]) -> None:
    check_same_job(make_manifest(), make_manifest(**free).keys, (A, B), "out")


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"frames": 4}, "frames: expected [2, 8], got [4]"),
        ({"frames": "all"}, 'frames: expected [2, 8], got "all"'),
        ({"short": "skip"}, 'short: expected "all", got "skip"'),
        ({"classes": "predicted"}, 'classes: expected ["label", 3], got ["predicted"]'),
        ({"estimator": {"m": 256}}, "estimator.m: expected 1024, got 256"),
        ({"estimator": {"seed": -1}}, "estimator.seed: expected 0, got -1"),
        ({"compute": {"unit": 5}}, 'compute.unit: expected "auto", got 5'),
        ({"compute": {"dtype": "float64"}}, 'compute.dtype: expected "float32", got "float64"'),
    ],
)
def test_a_differing_key_is_named_with_both_values(changed: dict[str, Any], expected: str) -> None:
    message = refusal(make_manifest(), make_manifest(**changed))
    assert message == (
        f"out holds another job's results; {expected}. Use another output, or give the same spec to resume"
    )


def test_every_differing_key_is_named() -> None:
    message = refusal(make_manifest(), make_manifest(frames=3, estimator={"kind": "exact", "iterations": 2}))
    for part in (
        "frames: expected [2, 8], got [3]",
        'estimator.kind: expected "auto", got "exact"',
        "estimator.iterations: expected 4, got 2",
    ):
        assert part in message
    assert "estimator.m:" not in message


def test_another_model_is_another_job() -> None:
    manifest = make_manifest()
    other = replace(manifest, keys={**manifest.keys, "model": "ffff"})
    assert 'model: expected "0123abcd", got "ffff"' in refusal(manifest, other)


def test_a_key_that_only_one_version_knows_is_named() -> None:
    manifest = make_manifest()
    later = replace(manifest, keys={**manifest.keys, "estimator.new": 5})
    assert "estimator.new: expected null, got 5" in refusal(manifest, later)
    assert "estimator.new: expected 5, got null" in refusal(later, manifest)


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ((A,), [B.url]),
        ((A, B, replace(A, url="s3://bucket/features/c.parquet")), ["s3://bucket/features/c.parquet"]),
        ((A, replace(B, size=2001)), [B.url]),
        ((A, replace(B, version="etag-c")), [B.url]),
        ((replace(A, version="x"), replace(B, version="x")), [A.url, B.url]),
        ((A, replace(B, url="s3://bucket/features/renamed.parquet")), [B.url, "s3://bucket/features/renamed.parquet"]),
    ],
    ids=["removed", "added", "other size", "other version", "both", "renamed"],
)
def test_a_changed_feature_table_is_refused_and_its_files_named(files: tuple[InputFile, ...], named: list[str]) -> None:
    message = refusal(make_manifest(), replace(make_manifest(), files=files))
    assert message == (
        f"out: the feature table changed since this job was planned: {', '.join(named)} "
        "(added, removed, rewritten or moved, or its rights or links changed); put it back, or use another output"
    )


def test_of_many_changed_files_the_first_are_named() -> None:
    more = tuple(replace(A, url=f"s3://bucket/features/n{number}.parquet") for number in range(9))
    message = refusal(make_manifest(), replace(make_manifest(), files=(A, B, *more)))
    assert "n0.parquet" in message
    assert "n8.parquet" not in message
    assert "and 6 more" in message


# _SUCCESS -------------------------------------------------------------------------------------------------------------


def test_the_mark_of_a_finished_job_comes_back(output: str) -> None:
    assert read_success(output) is None
    counts = UnitCounts(10, 7, 2, 1, {"videos": 12, "attributions": 99})
    commit_success(output, counts, 4)
    assert read_success(output) == {"units": 4, **counts.asdict()}
    commit_success(output, NO_COUNTS, 0)
    assert read_success(output) == {"units": 4, **counts.asdict()}


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"7", b"done", b"\xff", b'{"units": 1, "rows": "many"}'])
def test_a_foreign_mark_is_refused(output: str, content: bytes) -> None:
    storage.replace(f"{output}/_SUCCESS", content, "write")
    with pytest.raises(DataError) as caught:
        read_success(output)
    assert str(caught.value) == f"{output}/_SUCCESS: expected the counts of a finished job, got other content"


# Found and mended -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"keys": None},
        {"keys": ["frames"]},
        {"spec": None},
        {"model": 7},
        {"files": [["a", "large", "v", ""]]},
        {"files": [[None, 1, "v", ""]]},
        {"units": [[0, 0, "a", 5, 0]]},
        {"units": [[-1, 0, 0, 5, 0]]},
        {"units": [[0, 0, 5, 0, 0]]},
    ],
    ids=str,
)
def test_a_manifest_of_wrong_types_is_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    (tmp_path / "run.json").write_bytes(signed(json.dumps({**WHOLE, **wrong}).encode()))
    with pytest.raises(DataError, match=r"expected a job's manifest, got something else \((?!its checksum)"):
        read_manifest(str(tmp_path))
