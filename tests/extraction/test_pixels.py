"""The backbone pixels: elements are the images themselves."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from esv_ray.attribution.work import run_job
from esv_ray.cli import cli
from esv_ray.decoding import Evenly, ShortSide, open_decoder
from esv_ray.errors import DataError, SpecError
from esv_ray.extraction import pipeline
from esv_ray.extraction.tables import written
from esv_ray.input.parquet.footers import PREPROCESSING
from esv_ray.input.sources.table_writer import GROUP_BYTES
from esv_ray.output.expanding import UnitTable
from esv_ray.output.layout import FEATURES
from esv_ray.spec import load_spec
from tests.extraction.conftest import LENGTHS, Extract
from tests.extraction.test_table import rows
from tests.support.image_tables import image_table

CODE = "tests.support.factories"


def test_the_elements_are_the_decoded_images(clips: Path, run: Extract, tmp_path: Path) -> None:
    run(clips, "backbone=pixels", "size=[24,32]", "frames=4", "compute.batch=3", "thumbnails=true")
    found = rows(tmp_path / "table")
    assert [row["video_id"] for row in found] == list(LENGTHS)
    for row in found:
        with open_decoder(isolated=False).open(str(clips / f"{row['video_id']}.mp4")) as video:
            images = [frame.image for frame in video.frames(Evenly(4), resize=ShortSide(32, (24, 32)))]
        assert np.array_equal(np.array(row["features"], np.uint8), np.stack(images).reshape(4, -1))
    file = next((tmp_path / "table" / "features").glob("*.parquet"))
    schema = pq.read_schema(file)
    assert schema.field("features").metadata[b"shape"] == b"24,32,3"
    kind = schema.field("features").type.value_type
    assert (str(kind.value_type), kind.list_size) == ("uint8", 24 * 32 * 3)
    said = json.loads(schema.metadata[PREPROCESSING])
    assert (said["size"], said["short_side"], said["color"]) == ([24, 32], 32, "RGB")
    assert "mean" not in said  # the model normalizes
    # Bytes take no more than a byte on storage, although Parquet knows no such numbers.
    column = pq.ParquetFile(file).metadata.row_group(0)
    sizes = {column.column(i).path_in_schema: column.column(i) for i in range(column.num_columns)}
    pixels = sizes["features.list.element.list.element"]
    assert pixels.total_uncompressed_size < 1.2 * pixels.num_values


@pytest.mark.slow
def test_clips_to_esvs(clips: Path, run: Extract, tmp_path: Path) -> None:
    run(clips, "backbone=pixels", "size=16", "frames=8", "clip=2", "stride=2", "arguments.short_side=20")
    table, model, out = tmp_path / "table", tmp_path / "model", tmp_path / "out"
    assert {len(row["features"]) for row in rows(table)} == {3, 4}  # a video of 7 frames has 3 clips
    arguments = ["import", "model", "--from", "module", f"{CODE}:of_images", "--code", CODE, "--prior", "uniform"]
    imported = CliRunner().invoke(cli, [*arguments, "--size", "16", "--clip", "2", "--output", str(model)])
    assert imported.exit_code == 0, imported.exception
    base = [f"features={table}", f"model={model}", f"output={out}", "cluster.actors=0", "classes=predicted"]
    result = run_job(load_spec(None, [*base, "frames=3", f"code=[{CODE}]"]))
    assert (result.counts.ok, result.counts.written["attribution_rows"]) == (5, 15)
    for place in (table, out):
        verified = CliRunner().invoke(cli, ["verify", str(place)])
        assert verified.exit_code == 0, verified.output
    # A model that says how it prepares its images is compared with the table.
    manifest = json.loads((model / "model.json").read_text())
    extraction = {"size": [16, 16], "short_side": 16, "mean": [0.4, 0.4, 0.4], "std": [0.2, 0.2, 0.2]}
    (model / "model.json").write_text(json.dumps({**manifest, "extraction": extraction}))
    with pytest.raises(DataError, match="expected features of frames with short_side 16, as the model"):
        run_job(load_spec(None, [*base, f"output={tmp_path / 'other'}", f"code=[{CODE}]"]))


def test_row_groups_of_images_are_small() -> None:
    """Reading a byte of an image takes several times its size."""
    table = image_table([8] * 4, (64, 64, 3)).append_column("frame_index", [[list(range(8))] * 4])
    made = written(FEATURES, UnitTable(table, np.arange(4)), {})
    assert made.group_rows == GROUP_BYTES // (8 * 8 * 64 * 64 * 3)


def test_a_video_of_too_many_images_fails_alone(
    clips: Path, run: Extract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "MOST_IMAGE_BYTES", 20 * 16 * 16 * 3)
    run(clips, "backbone=pixels", "size=16", "frames=all", "compute.batch=4")
    reasons = {row["video_id"]: row["reason"] for row in rows(tmp_path / "table", "_videos")}
    assert reasons["a"] is None
    assert "features of more than 15360 bytes; ask for fewer frames" in reasons["c/a"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["dtype=float16"], "dtype: the backbone pixels writes uint8"),
        (["weights=a.pt"], "weights: the backbone pixels takes none"),
        (["arguments.width=3"], "arguments: the backbone pixels takes short_side, got 'width'"),
        (["arguments.short_side=10"], "arguments.short_side: expected pixels from 224 to 4096, got 10"),
    ],
)
def test_options_that_do_not_go_with_pixels(clips: Path, run: Extract, options: list[str], expected: str) -> None:
    with pytest.raises(SpecError, match=expected):
        run(clips, "backbone=pixels", *options)
