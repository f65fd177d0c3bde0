"""esv explain: real clips, the values of extract and attribute, one line for what is wrong."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import esv_ray
from esv_ray.attribution.work import run_job
from esv_ray.clips.explaining import explain_clips
from esv_ray.clips.pages import check_file, write_clips
from esv_ray.clips.request import ClipRequest, estimator_of, extraction_of
from esv_ray.decoding import Evenly, open_decoder
from esv_ray.errors import DataError, EsvError, ModelError, SpecError
from esv_ray.extraction.backbones.pooled import PooledPixels
from esv_ray.extraction.work import extract
from esv_ray.models.saving import save_heads
from esv_ray.spec import load_spec
from esv_ray.spec_extract import load_extract_spec
from tests.conftest import make_heads, make_prior
from tests.support.command import run as run_command
from tests.support.videos import write_video

NAMES = ("left", "right", "7")
DIM = 147  # of the backbone pooled
SAMPLED = ("estimator.kind=algorithm1", "estimator.m=2", "estimator.iterations=3")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips, what is none, and a model of features of the backbone `pooled`."""
    folder = tmp_path_factory.mktemp("explain")
    (folder / "clips").mkdir()
    for name, frames in (("a", 20), ("b", 33)):
        write_video(folder / "clips" / f"{name}.mp4", frames=frames)
    (folder / "bad.mp4").write_text("nothing of a video")
    save_heads(str(folder / "model"), make_heads(feature_dim=DIM), make_prior(3), classes=NAMES)
    save_heads(str(folder / "other"), make_heads(), make_prior(3))
    return folder


def request_of(made: Path, *clips: str, model: str = "model", **options: Any) -> ClipRequest:
    given = {"backbone": "pooled", "frames": 5, **options.pop("options", {})}
    return ClipRequest(tuple(str(made / clip) for clip in clips), str(made / model), options=given, **options)


def test_the_values_of_the_python_interface(made: Path) -> None:
    """To the bit: the same frames, features and ESVs as by hand."""
    backbone = PooledPixels()
    with open_decoder(isolated=False).open(str(made / "clips" / "b.mp4")) as video:
        frames = list(video.frames(Evenly(5), resize=backbone.info.preprocessing.resize))
    features = backbone.encode(np.stack([frame.image for frame in frames]))
    expected = esv_ray.explain(str(made / "model"), features, video_id="b")
    (clip,) = explain_clips(request_of(made, "clips/b.mp4"))
    assert clip.video.frame_index.tolist() == [frame.index for frame in frames]
    (shown,) = clip.video.classes
    assert shown.class_id == expected.predicted
    assert shown.esv.tolist() == expected.esv[:, expected.predicted].tolist()
    assert (shown.score, shown.prior) == (float(expected.scores[shown.class_id]), float(expected.prior[shown.class_id]))


@pytest.mark.slow
def test_the_values_of_extract_and_attribute(made: Path, tmp_path: Path) -> None:
    """Up to rounding: a job computes videos of one length together."""
    table, output = str(tmp_path / "table"), str(tmp_path / "esv")
    base = [f"videos={made / 'clips'}", "backbone=pooled", f"output={table}", "cluster.actors=0", "frames=5"]
    extract(load_extract_spec(None, base))
    options = ["cluster.actors=0", "frames=all", "classes=all", *SAMPLED]
    run_job(load_spec({"features": table, "model": str(made / "model"), "output": output}, options))
    rows = pq.read_table(f"{output}/attributions").to_pylist()
    explained = explain_clips(request_of(made, "clips", overrides=SAMPLED, classes=("0", "1", "7")))
    assert [clip.video.video_id for clip in explained] == ["a", "b"]
    for clip in explained:
        own = [row for row in rows if row["video_id"] == clip.video.video_id]
        assert not clip.video.exact
        for each in clip.video.classes:
            expected = [row for row in own if row["class"] == each.class_id]
            assert clip.video.frame_index.tolist() == [row["frame_index"] for row in expected]
            assert each.stderr is not None
            np.testing.assert_allclose(each.esv, [row["esv"] for row in expected], atol=1e-6)
            np.testing.assert_allclose(each.stderr, [row["stderr"] for row in expected], atol=1e-6)
    # The same backbone and frames without saying so: the table records them.
    again = explain_clips(
        ClipRequest((str(made / "clips"),), str(made / "model"), table=table, overrides=SAMPLED, classes=("0",))
    )
    for clip, before in zip(again, explained, strict=True):
        np.testing.assert_array_equal(clip.video.classes[0].esv, before.video.classes[0].esv)


@pytest.mark.slow
def test_what_a_model_was_trained_on_says_the_backbone(made: Path, tmp_path: Path) -> None:
    table = str(tmp_path / "table")
    base = [f"videos={made / 'clips' / 'a.mp4'}", "backbone=pooled", f"output={table}", "cluster.actors=0", "size=64"]
    extract(load_extract_spec(None, [*base, "fps=5"]))
    model = str(tmp_path / "model")
    save_heads(model, make_heads(feature_dim=DIM), make_prior(3), training={"features": table})
    asked = ClipRequest((str(made / "clips" / "b.mp4"),), model, overrides=SAMPLED)
    spec = extraction_of(asked)
    assert (spec.backbone, spec.size, spec.frames, spec.fps) == ("pooled", (64, 64), None, None)
    (clip,) = explain_clips(asked)
    assert clip.video.n == 16  # not every frame of a table with all of them
    for options, expected in (
        ({"frames": 3}, (3, None)),
        ({"fps": 2.0}, (None, 2.0)),
        ({"frames": "all"}, ("all", None)),
    ):
        spec = extraction_of(ClipRequest(asked.clips, model, options=options))
        assert (spec.frames, spec.fps) == expected
    Path(table, "run.json").unlink()
    with pytest.raises(SpecError, match=r"--backbone: expected the backbone that made the features of .*model"):
        explain_clips(asked)


def test_classes_by_role_name_and_number(made: Path) -> None:
    def shown(*classes: str) -> list[int]:
        (clip,) = explain_clips(request_of(made, "clips/a.mp4", classes=classes))
        return [each.class_id for each in clip.video.classes]

    (predicted,) = shown()
    assert shown("right", "predicted", "7") == list(dict.fromkeys([1, predicted, 2]))  # "7" is a name


@pytest.mark.parametrize(
    ("clip", "options", "kind", "message"),
    [
        ("bad.mp4", {}, DataError, r"bad\.mp4: expected a video, got a file that cannot be opened"),
        ("none.mp4", {}, DataError, r"none\.mp4 was not found; check the location"),
        ("clips/a.mp4", {"model": "other"}, ModelError, r"features of 4 numbers, got 147 from the backbone pooled"),
        ("clips/a.mp4", {"model": "none"}, ModelError, r"expected a model bundle, but there is no model\.json"),
        ("clips/a.mp4", {"classes": ("rigth",)}, SpecError, r"there is no class 'rigth'; did you mean 'right'\?"),
        ("clips/a.mp4", {"classes": ("9",)}, SpecError, r"expected a class name or a number from 0 to 2, got 9"),
        ("clips/a.mp4", {"options": {"backbone": "vit"}}, SpecError, r"backbone: expected one of pooled, .*got 'vit'"),
        ("clips/a.mp4", {"table": "clips", "options": {"backbone": None}}, DataError, r"no run\.json; give --backbone"),
        ("clips/a.mp4", {"overrides": ("estimator.m=0",)}, SpecError, r"spec: estimator\.m: expected greater"),
        ("clips/a.mp4", {"overrides": ("sizes=3",)}, SpecError, r"unknown key 'sizes'; did you mean 'size'"),
    ],
)  # fmt: skip
def test_what_is_wrong(made: Path, clip: str, options: dict[str, Any], kind: type[EsvError], message: str) -> None:
    with pytest.raises(EsvError, match=message) as caught:
        explain_clips(request_of(made, clip, **options))
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)


def test_a_model_may_name_its_backbone(made: Path, tmp_path: Path) -> None:
    model = str(tmp_path / "model")
    save_heads(model, make_heads(feature_dim=DIM), make_prior(3))
    content = json.loads(Path(model, "model.json").read_text())
    said = {"backbone": "pooled", "size": [64, 72], "dim": DIM}
    Path(model, "model.json").write_text(json.dumps({**content, "extraction": said}))
    spec = extraction_of(ClipRequest((str(made / "clips"),), model))
    assert (spec.backbone, spec.size) == ("pooled", (64, 72))
    spec = extraction_of(ClipRequest((str(made / "clips"),), model, options={"backbone": "onnx:a.onnx"}))
    assert (spec.backbone, spec.size) == ("onnx:a.onnx", None)


def test_a_missing_package_is_named(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(SpecError, match=r"pip install 'esv-ray\[video\]'"):
        explain_clips(request_of(made, "clips/a.mp4"))
    monkeypatch.setitem(sys.modules, "altair", None)
    with pytest.raises(SpecError, match=r"pip install 'esv-ray\[figures\]'"):
        check_file("clip.html", 1)


def test_frames_prepared_otherwise_than_the_model_says(made: Path, tmp_path: Path) -> None:
    model = str(tmp_path / "model")
    save_heads(model, make_heads(feature_dim=DIM), make_prior(3))
    content = json.loads(Path(model, "model.json").read_text())
    Path(model, "model.json").write_text(json.dumps({**content, "extraction": {"color": "BGR"}}))
    with pytest.raises(ModelError, match=r"frames with color 'BGR', got color 'RGB' from the backbone"):
        explain_clips(ClipRequest((str(made / "clips"),), model, options={"backbone": "pooled"}))


def test_estimators() -> None:
    overrides = ("estimator.kind=algorithm1", "size=64", "estimator.output=logit")
    estimator = estimator_of(ClipRequest(("a.mp4",), "model", overrides=overrides))
    assert (estimator.kind, estimator.output) == ("algorithm1", "logit")


@pytest.mark.slow
def test_a_page_has_a_section_per_clip(made: Path, tmp_path: Path) -> None:
    explained = explain_clips(request_of(made, "clips", pictures=True))
    assert all(picture.startswith(b"\xff\xd8\xff") for clip in explained for picture in clip.pictures)
    assert [len(clip.pictures) for clip in explained] == [5, 5]
    write_clips(explained, str(tmp_path / "page.html"))
    page = (tmp_path / "page.html").read_text()
    assert page.count("<details>") == 2
    assert page.count("<hr>") == 1
    assert "<title>ESVs of 2 clips</title>" in page
    names = re.findall(r' id="([^"]+)"', page)
    assert len(set(names)) == len(names)
    assert page.count("data:image/jpeg;base64,") == 2 * 2 * 5  # light and dark
    with pytest.raises(SpecError, match=r"a \.png file shows one clip, got 2 clips; give a \.html file"):
        write_clips(explained, str(tmp_path / "page.png"))
    write_clips(explained[:1], str(tmp_path / "one.png"))
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(SpecError, match=r"\.png, \.svg or \.html"):
        check_file("x.gif", 1)


@pytest.mark.slow
def test_the_command(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def esv(*arguments: str) -> tuple[int, str, str]:
        return run_command("explain", *arguments, monkeypatch=monkeypatch, capsys=capsys)

    clips = [str(made / "clips" / name) for name in ("a.mp4", "b.mp4")]
    options = ("--model", str(made / "model"), "--backbone", "pooled", "--frames", "4")
    code, out, err = esv(*clips, *options)
    assert (code, err) == (0, "")
    first, second = out.split("\n\nb: ")
    assert first.startswith("a: 4 elements, no label; exact")
    assert second.startswith("4 elements")
    code, out, _ = esv(clips[0], *options, "--output", str(tmp_path / "a.svg"))
    assert (code, out) == (0, f"written: {tmp_path / 'a.svg'}\n")
    assert (tmp_path / "a.svg").read_text().startswith("<svg")
    code, _, err = esv(clips[0], *options, "--all")
    assert code == 2
    assert "expected one of --frames, --fps and --all, got --frames and --all" in err


@pytest.mark.slow
def test_a_damaged_clip_is_explained_with_a_remark(made: Path, tmp_path: Path) -> None:
    data = write_video(tmp_path / "whole.mkv", frames=40).read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) // 2])
    (clip,) = explain_clips(request_of(made, str(tmp_path / "cut.mkv")))
    assert any("truncated" in remark for remark in clip.remarks)
