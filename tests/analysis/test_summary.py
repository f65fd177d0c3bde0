"""The summary adds up: prior + supporting + distracting = score, and accuracy is what the videos table says."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from esv_ray.analysis.summary import summarize
from esv_ray.errors import DataError
from tests.support.jobs import run


def test_summary_adds_up(features: str, bundle: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(features, bundle, out, "estimator.kind=exact")
    summary = summarize(str(out))
    videos = pq.read_table(out / "videos").to_pylist()
    assert (summary.videos, summary.labelled, summary.exact) == (40, 40, 40)
    assert summary.accuracy == pytest.approx(sum(row["label"] == row["predicted"] for row in videos) / 40)
    assert [class_summary.name for class_summary in summary.classes] == ["one", "two", "three"]
    assert sum(class_summary.sequences for class_summary in summary.classes) == 40
    for index, class_summary in enumerate(summary.classes):
        own = [row["scores"][index] for row in videos if row["label"] == index]
        assert class_summary.score == pytest.approx(sum(own) / len(own), abs=1e-6)
        assert class_summary.prior + class_summary.supporting + class_summary.distracting == pytest.approx(
            class_summary.score, abs=1e-5
        )
        assert class_summary.supporting >= 0 >= class_summary.distracting
        assert 0 <= class_summary.supporting_share <= 1
    assert summary.worst_exact_gap < 1e-5


def test_several_lengths_are_sequences_of_one_video(features: str, bundle: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(features, bundle, out, "frames=[2,all]")
    summary = summarize(str(out))
    rows = pq.read_table(out / "videos", columns=["status"]).column("status").to_pylist().count("ok")
    assert (summary.videos, summary.sequences) == (40, rows)
    assert rows > 40
    assert sum(row.sequences for row in summary.classes) == rows


def test_scores_of_another_number_of_classes(features: str, bundle: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(features, bundle, out)
    path = next((out / "videos").iterdir())
    table = pq.read_table(path)
    place = table.schema.get_field_index("scores")
    changed = pa.array([None, [0.5], *table.column("scores").to_pylist()[2:]], table.schema.field("scores").type)
    pq.write_table(table.set_column(place, table.schema.field("scores"), changed), path)
    with pytest.raises(DataError, match="expected 3 scores for every video that is ok; see esv verify"):
        summarize(str(out))


def test_no_output(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"found no run\.json"):
        summarize(str(tmp_path))
