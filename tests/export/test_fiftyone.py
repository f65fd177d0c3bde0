"""esv export --to fiftyone: documents as FiftyOne reads them, with the values of the tables."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esv_ray.errors import DataError, SpecError
from esv_ray.export.fiftyone import field_name, supports
from esv_ray.models.saving import save_heads
from tests.conftest import make_heads, make_prior, make_table
from tests.export import fiftyone_schema as schema
from tests.export.conftest import IDS, NAMES, Out, write
from tests.support.jobs import run


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A list of the videos: all but the last. Their files need not exist."""
    place = tmp_path_factory.mktemp("listed") / "videos.csv"
    rows = [f'"{video_id}",clips/{number}.mp4' for number, video_id in enumerate(IDS[:-1])]
    place.write_text("\n".join(["video_id,path", *rows]) + "\n", encoding="utf-8")
    return place


def read(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]:
    """The documents of a folder, which FiftyOne would take."""
    dataset, samples, frames = (
        json.loads((folder / f"{name}.json").read_text("ascii")) for name in ("metadata", "samples", "frames")
    )
    jsonschema.validate(dataset, schema.DATASET)
    jsonschema.validate(samples, schema.collection("samples", schema.SAMPLE))
    jsonschema.validate(frames, schema.collection("frames", schema.FRAME))
    return dataset, samples["samples"], frames["frames"]


def test_the_documents_hold_the_tables(sweep: Out, listed: Path, tmp_path: Path) -> None:
    notes = write("fiftyone", sweep.folder, tmp_path / "fo", videos=str(listed))
    assert notes == ["1 video left out, because no file was found"]
    dataset, samples, frames = read(tmp_path / "fo")
    videos = {row["video_id"]: row for row in sweep.rows("videos") if row["status"] == "ok"}  # the longest comes last
    assert {sample["video_id"] for sample in samples} == set(videos) - {IDS[-1]}
    fields = [name for name in (field["name"] for field in dataset["frame_fields"]) if name.startswith("esv_")]
    assert fields == ["esv_0_hyperlink_0", "esv_1_jump_high_31m", "esv_2_stand"]
    for sample in samples:
        row = videos[sample["video_id"]]
        assert Path(sample["filepath"]) == listed.parent / "clips" / f"{IDS.index(row['video_id'])}.mp4"
        assert sample["predicted"]["label"] == NAMES[row["predicted"]]
        assert sample["score"] == sample["predicted"]["confidence"] == pytest.approx(max(row["scores"]), rel=1e-6)
        label = None if row["label"] is None else NAMES[row["label"]]
        assert (sample["ground_truth"] or {}).get("label") == label
        assert sample["n_elements"] == row["n_elements"]
        own = [frame for frame in frames if frame["_sample_id"] == sample["_id"]]
        n, expected = row["n_elements"], sweep.esvs(row["video_id"], row["n_elements"])
        # Frames count from 1.
        assert [frame["frame_number"] for frame in own] == [
            1 + (2 * i + 1) * row["n_frames"] // (2 * n) for i in range(n)
        ]
        values = np.array([[frame[name] for name in fields] for frame in own], np.float32)
        np.testing.assert_array_equal(values, expected)
        for detection in sample["supporting"]["detections"]:
            of = expected[:, NAMES.index(detection["label"])]
            assert np.float32(detection["esv"]) == of[detection["element"]] > 0
            first, last = detection["support"]
            assert first <= own[detection["element"]]["frame_number"] <= last
        of_predicted = [each["esv"] for each in sample["supporting"]["detections"]
                        if each["label"] == NAMES[row["predicted"]]]  # fmt: skip
        positive = np.sort(expected[:, row["predicted"]][expected[:, row["predicted"]] > 0])[::-1]
        np.testing.assert_array_equal(np.array(of_predicted, np.float32), positive[:3])


def test_ids_are_unique_and_every_field_is_declared(sweep: Out, listed: Path, tmp_path: Path) -> None:
    write("fiftyone", sweep.folder, tmp_path / "fo", videos=str(listed))
    dataset, samples, frames = read(tmp_path / "fo")
    detections = [each for sample in samples for each in sample["supporting"]["detections"]]
    labels = [sample[name] for sample in samples for name in ("ground_truth", "predicted") if sample[name]]
    for documents in (samples, frames, [*detections, *labels]):
        ids = [document["_id"]["$oid"] for document in documents]
        assert len(set(ids)) == len(ids)
    places = {(frame["_sample_id"]["$oid"], frame["frame_number"]) for frame in frames}
    assert len(places) == len(frames)  # a unique index of FiftyOne
    for documents, declared in ((samples, dataset["sample_fields"]), (frames, dataset["frame_fields"])):
        names = {field["db_field"] for field in declared}
        assert len(names) == len(declared)
        assert all(set(document) <= names for document in documents)
        for field in declared:
            assert field["name"].startswith("_") or re.match(schema.FIELD_NAME, field["name"])


def test_the_same_output_gives_the_same_bytes_and_existing_files_stay(sweep: Out, listed: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write("fiftyone", sweep.folder, tmp_path / name, videos=str(listed), elements=2)
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()
    assert {sample["n_elements"] for sample in read(tmp_path / "a")[1]} == {2}
    with pytest.raises(DataError, match=r"expected no file there, found one"):
        write("fiftyone", sweep.folder, tmp_path / "a", videos=str(listed))


@pytest.mark.slow
def test_names_that_look_alike_have_fields_of_their_own(listed: Path, tmp_path: Path) -> None:
    """Field names are unique and valid whatever classes are called; a name that occurs twice has its id."""
    names = ("a.b$", "a b", "_id", "a b", "", "frames", "esv_1", "動")
    pq.write_table(make_table([3, 4], n_classes=8), tmp_path / "f.parquet")
    save_heads(str(tmp_path / "model"), make_heads(n_classes=8), make_prior(8), classes=names)
    run(str(tmp_path / "f.parquet"), str(tmp_path / "model"), tmp_path / "out", "classes=all")
    (tmp_path / "v.csv").write_text("video_id,path\nv0,0.mp4\nv1,1.mp4\n")
    write("fiftyone", tmp_path / "out", tmp_path / "fo", videos=str(tmp_path / "v.csv"))
    dataset, samples, _ = read(tmp_path / "fo")
    fields = [field["name"] for field in dataset["frame_fields"] if field["name"].startswith("esv_")]
    assert fields == [
        "esv_0_a_b",
        "esv_1_a_b",
        "esv_2_id",
        "esv_3_a_b",
        "esv_4",
        "esv_5_frames",
        "esv_6_esv_1",
        "esv_7",
    ]
    assert dataset["default_classes"] == ["a.b$", "a b (1)", "_id", "a b (3)", "", "frames", "esv_1", "動"]
    assert samples[1]["ground_truth"]["label"] == "a b (1)"


@settings(max_examples=30)
@given(st.text(), st.integers(0, 10**6), st.text(), st.integers(0, 10**6))
def test_field_names(one: str, first: int, other: str, second: int) -> None:
    assert re.fullmatch("esv_[0-9]+(_[a-z0-9]+)*", field_name(first, one))
    assert (field_name(first, one) == field_name(second, other)) <= (first == second)


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=9, unique=True).map(sorted))
def test_stretches_share_out_the_frames_between_the_first_and_the_last(frames: list[int]) -> None:
    stretches = supports(frames)
    assert stretches[0][0] == frames[0] + 1
    assert stretches[-1][1] == frames[-1] + 1
    for (first, last), frame in zip(stretches, frames, strict=True):
        assert first <= frame + 1 <= last
    for (_, last), (first, _) in pairwise(stretches):
        assert first == last + 1


def test_frames_out_of_order() -> None:
    assert supports([5, 3, 3]) == [(6, 6), (4, 4), (4, 4)]


def test_where_the_videos_are(sweep: Out, plain: Out, tmp_path: Path) -> None:
    with pytest.raises(
        SpecError, match=r"--videos: expected the folder or the list of the videos, because .*f\.parquet"
    ):
        write("fiftyone", plain.folder, tmp_path / "fo")
    (tmp_path / "v.csv").write_text("video_id,path\nnobody,0.mp4\n")
    with pytest.raises(DataError, match=r"found none of 11; one file has the id 'nobody'; check --videos"):
        write("fiftyone", plain.folder, tmp_path / "fo", videos=str(tmp_path / "v.csv"))
    with pytest.raises(DataError, match="expected videos with ESVs at 9 elements, found none"):
        write("fiftyone", plain.folder, tmp_path / "fo", videos=str(tmp_path / "v.csv"), elements=9)
    assert not (tmp_path / "fo").exists()
