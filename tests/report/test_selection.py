"""Which videos a report shows: against brute force; the same in any batches; odd outputs."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from esv_ray.analysis import batches
from esv_ray.analysis.analyzed import open_output
from esv_ray.analysis.tables import tables_of_facets
from esv_ray.bench.outputs import Shape, write_output
from esv_ray.report.selection import FACET, MOST, REASONS, Chosen, chosen_videos
from esv_ray.show.read import read_video, read_videos
from tests.conftest import make_table
from tests.support import facet_oracle
from tests.support.jobs import run

EACH = MOST // len(REASONS)


def chosen(output: Path) -> list[Chosen]:
    with tables_of_facets(open_output(str(output)), [FACET]) as (made,):
        return chosen_videos(made.table)


def ranked(output: Path, explained: str) -> dict[str, list[tuple[str, int]]]:
    """The first videos of each ranking, by loops."""
    found = facet_oracle.read(output)
    values: dict[str, list[tuple[float, str, int]]] = {reason: [] for reason in REASONS}
    longest: dict[str, int] = {}
    sequences = found.sequences(explained)
    for each in sequences:
        longest[each.row["video_id"]] = max(each.n, longest.get(each.row["video_id"], 0))
    for each in sequences:
        video_id = each.row["video_id"]
        if longest[video_id] != each.n:
            continue
        values["best"].append((each.score, video_id, each.n))
        values["worst"].append((-each.score, video_id, each.n))
        below = [value for value in each.esv if value < 0]
        if below:
            values["most distracted"].append((-sum(below), video_id, each.n))
        elif min(each.esv) > 0 and each.n > 1:
            values["most evenly supported"].append((each.n * min(each.esv), video_id, each.n))
        label, predicted = (found.of(each.row, each.row[name]) for name in ("label", "predicted"))
        if label and predicted and each.row["label"] != each.row["predicted"]:
            lowest = min(a["esv"] - b["esv"] for a, b in zip(label, predicted, strict=True))
            if lowest < 0:
                values["most misled"].append((-lowest, video_id, each.n))
    return {
        reason: [(video_id, n) for _, video_id, n in sorted(rows, key=lambda row: (-row[0], row[1]))[:EACH]]
        for reason, rows in values.items()
    }


def check(output: Path, explained: str) -> None:
    videos, expected = chosen(output), ranked(output, explained)
    assert len(videos) <= MOST
    assert len({each.video_id for each in videos}) == len(videos)
    for reason in REASONS:
        places = {each.places[reason]: (each.video_id, each.n_elements) for each in videos if reason in each.places}
        assert [places[place] for place in range(1, len(places) + 1)] == expected[reason]
    firsts = [REASONS.index(next(iter(each.places))) for each in videos]
    assert firsts == sorted(firsts)


@pytest.mark.parametrize("elements", [1, 6])
def test_against_brute_force(tmp_path: Path, elements: int) -> None:
    write_output(str(tmp_path / "out"), Shape(150, elements, 5, rows=16))
    check(tmp_path / "out", "label")


@pytest.mark.slow
def test_jobs(features: str, bundle: str, tmp_path: Path) -> None:
    """Several lengths, of which each video's longest counts; logits; without labels."""
    run(features, bundle, tmp_path / "swept", "frames=[2,5,all]")
    check(tmp_path / "swept", "label")
    run(features, bundle, tmp_path / "logit", "frames=4", "estimator.output=logit")
    check(tmp_path / "logit", "label")
    pq.write_table(make_table([3, 4, 9], n_classes=None), tmp_path / "f.parquet")
    run(str(tmp_path / "f.parquet"), bundle, tmp_path / "unlabelled", "classes=all")
    check(tmp_path / "unlabelled", "predicted")
    assert "most misled" not in {reason for each in chosen(tmp_path / "unlabelled") for reason in each.places}


@pytest.mark.slow
def test_batches_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_output(str(tmp_path / "out"), Shape(150, 6, 5, rows=16))
    whole = chosen(tmp_path / "out")
    monkeypatch.setattr(batches, "_MOST_ELEMENTS", 200)
    assert chosen(tmp_path / "out") == whole


def test_all_failed(bundle: str, tmp_path: Path) -> None:
    table = make_table([3, 4])
    pq.write_table(table.set_column(0, "video_id", [["", None]]), tmp_path / "f.parquet")
    run(str(tmp_path / "f.parquet"), bundle, tmp_path / "out")
    assert chosen(tmp_path / "out") == []
    assert read_videos(str(tmp_path / "out"), [], []) == []


@pytest.mark.slow
def test_videos_are_read_as_one_by_one(features: str, bundle: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(features, bundle, out, "frames=[2,all]", "estimator.kind=adjusted", "estimator.m=5")
    sequences = [(each.video_id, each.n_elements) for each in chosen(out)]
    assert len(sequences) > 5
    for video, (video_id, n) in zip(
        read_videos(str(out), open_output(str(out)).units, sequences), sequences, strict=True
    ):
        alone = read_video(str(out), video_id, n_elements=n)
        assert (video.video_id, video.n, video.label, video.predicted) == (video_id, n, alone.label, alone.predicted)
        assert [each.title for each in video.classes] == [each.title for each in alone.classes]
        for ours, theirs in zip(video.classes, alone.classes, strict=True):
            assert ours.esv.tolist() == theirs.esv.tolist()
            assert (ours.score, ours.prior) == (theirs.score, theirs.prior)
