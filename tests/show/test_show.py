"""esv show: one video of an output, in the terminal and as files."""

from __future__ import annotations

import base64
import re
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

import esv_ray
from esv_ray.cli import cli
from esv_ray.errors import DataError, SpecError
from esv_ray.models.saving import save_heads
from esv_ray.report.content import ShownVideo
from esv_ray.report.videos import key_html
from esv_ray.show.chart import picture_of, video_chart
from esv_ray.show.html import values_table
from esv_ray.show.listing import list_videos, listing_lines
from esv_ray.show.read import read_video
from esv_ray.show.terminal import encodable, video_lines
from esv_ray.show.text import shortened
from esv_ray.show.video import AttributedVideo
from tests.conftest import make_heads, make_prior, make_table
from tests.support.jobs import run
from tests.support.pictures import png

LONG = "jump <b>&</b> \x1b[31mfall, and a long way of saying so that no terminal has room for in one line"
NAMES = ("run", LONG, "stand")


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 videos of 3 to 22 elements; those of up to 7 are exact."""
    folder = tmp_path_factory.mktemp("show")
    pq.write_table(make_table(list(range(3, 23))), folder / "f.parquet")
    save_heads(str(folder / "model"), make_heads(), make_prior(3), classes=NAMES)
    run(str(folder / "f.parquet"), str(folder / "model"), folder / "out", "estimator.m=20", "estimator.iterations=2")
    return folder / "out"


def rows_of(output: Path, table: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(output / table).to_pylist()
    return rows


def wrong_and_right(output: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The last videos that are classified wrong and right."""
    rows = rows_of(output, "videos")
    wrong = [row for row in rows if row["label"] != row["predicted"]]
    right = [row for row in rows if row["label"] == row["predicted"]]
    return wrong[-1], right[-1]


def show(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["show", *map(str, arguments)])


# --- reading


def test_a_video_has_the_values_of_the_tables(output: Path) -> None:
    attributions = rows_of(output, "attributions")
    for row in rows_of(output, "videos"):
        video = read_video(str(output), row["video_id"])
        assert (video.label, video.predicted, video.exact) == (row["label"], row["predicted"], row["exact"])
        assert [each.class_id for each in video.classes] == list(dict.fromkeys((row["label"], row["predicted"])))
        for each in video.classes:
            own = [r for r in attributions if (r["video_id"], r["class"]) == (row["video_id"], each.class_id)]
            own.sort(key=lambda r: int(r["element"]))
            assert each.esv.tolist() == [r["esv"] for r in own]
            assert (None if each.stderr is None else each.stderr.tolist()) == (
                None if row["exact"] else [r["stderr"] for r in own]
            )
            assert each.score == row["scores"][each.class_id]
            assert each.score - each.prior == pytest.approx(float(each.esv.sum()), abs=1e-5)
            assert each.name == NAMES[each.class_id]
        errors = video.difference_stderr
        assert (None if errors is None else errors.tolist()) == row["stderr_difference"]
        if row["label"] == row["predicted"]:
            assert video.difference is None
            assert video.most_misleading is None
        else:
            first, second = video.classes
            assert video.difference is not None
            np.testing.assert_array_equal(video.difference, first.esv - second.esv)
            assert video.most_misleading == int(video.difference.argmin())


def test_logits_are_sums_of_their_parts(tmp_path: Path) -> None:
    pq.write_table(make_table([5]), tmp_path / "f.parquet")
    save_heads(str(tmp_path / "model"), make_heads(), make_prior(3))
    run(str(tmp_path / "f.parquet"), str(tmp_path / "model"), tmp_path / "out", "estimator.output=logit", "classes=all")
    video = read_video(str(tmp_path / "out"), "v0", classes=["0", "1", "2"])
    scores = np.array([each.score for each in video.classes])
    stored = rows_of(tmp_path / "out", "videos")[0]["scores"]
    np.testing.assert_allclose(np.exp(scores) / np.exp(scores).sum(), stored, atol=1e-5)
    assert video.unit == "logit"


def test_lengths_and_failures(tmp_path: Path) -> None:
    table = make_table([3, 8])
    bad = table.set_column(0, "video_id", pa.array(["v0", "v1"])).to_pylist()
    bad[0]["features"][0][0] = float("nan")
    pq.write_table(pa.Table.from_pylist(bad, schema=table.schema), tmp_path / "f.parquet")
    save_heads(str(tmp_path / "model"), make_heads(), make_prior(3))
    out = str(tmp_path / "out")
    run(str(tmp_path / "f.parquet"), str(tmp_path / "model"), out, "frames=[2,4]", "max_failed=1")
    assert read_video(out, "v1").n == 4
    assert read_video(out, "v1", n_elements=2).n == 2
    with pytest.raises(SpecError, match=r"was attributed with \[2, 4\] elements, got 3"):
        read_video(out, "v1", n_elements=3)
    with pytest.raises(DataError, match=r"video 'v0' has no ESVs: failed, .*NaN"):
        read_video(out, "v0")
    with pytest.raises(DataError, match=r"expected a video 'v2' among 2, found none; it has, e.g., 'v0'"):
        read_video(out, "v2")


def test_classes_by_role_number_and_name(output: Path) -> None:
    wrong, _ = wrong_and_right(output)
    url, video_id = str(output), wrong["video_id"]
    for given in ("label", str(wrong["label"]), NAMES[wrong["label"]]):
        assert [each.class_id for each in read_video(url, video_id, classes=[given]).classes] == [wrong["label"]]
    (missing,) = {0, 1, 2} - {wrong["label"], wrong["predicted"]}
    kept = "class: expected one whose ESVs of this video are kept"
    for given, advice in (
        (str(missing), f"run esv attribute with --set 'classes=\\[label,predicted,{missing}\\]' and another --output"),
        (NAMES[missing], f"classes=\\[label,predicted,{missing}\\]"),
        ("7", "`classes` of the job"),
        ("-1", "`classes` of the job"),
        ("", "`classes` of the job"),
    ):
        with pytest.raises(SpecError, match=f"{kept}.*{advice}"):
            read_video(url, video_id, classes=[given])
    with pytest.raises(SpecError, match=r"class: there is no class .*; did you mean "):
        read_video(url, video_id, classes=[NAMES[missing][:-1]])


def test_videos_to_look_at(output: Path) -> None:
    rows = rows_of(output, "videos")
    right = [row["video_id"] for row in rows if row["label"] == row["predicted"]]
    wrong = [row["video_id"] for row in rows if row["label"] != row["predicted"]]
    few = list_videos(str(output), 2)
    assert [[video.video_id for video in videos] for videos in (few.right, few.wrong)] == [right[:2], wrong[:2]]
    assert few.unlabelled == []
    done = show(output)
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert lines[0] == ("misclassified (the first 10):" if len(wrong) >= 10 else "misclassified:")
    assert next(listing_lines(few)) == "misclassified (the first 2):"
    first = next(row for row in rows if row["video_id"] == wrong[0])
    label, predicted = (shortened(NAMES[first[key]], 40) for key in ("label", "predicted"))
    assert lines[1] == f"  {wrong[0]}  label {label}, predicted {predicted}"
    assert lines[-1] == f"to see one of them: esv show {output} {wrong[0]}"
    assert "give a VIDEO_ID" in show(output, "--elements", "3").output


def test_videos_to_look_at_without_labels_or_names(tmp_path: Path) -> None:
    """An output of several lengths lists a video once; ids are printed safely."""
    table = make_table([5, 6]).set_column(0, "video_id", [["a\x1b[2J", "b"]]).drop_columns(["label"])
    pq.write_table(table, tmp_path / "f.parquet")
    save_heads(str(tmp_path / "model"), make_heads(), make_prior(3))
    run(str(tmp_path / "f.parquet"), str(tmp_path / "model"), tmp_path / "out", "frames=[2,all]")
    lines = show(tmp_path / "out").output.splitlines()
    assert lines[0] == "without a label:"
    assert lines[1].startswith("  a\\x1b[2J  predicted ")
    assert len(lines) == 4


def test_outputs_of_earlier_versions_and_other_tables(output: Path, tmp_path: Path) -> None:
    wrong, _ = wrong_and_right(output)
    for column in ("stderr_difference", "scores"):
        copy = tmp_path / column
        shutil.copytree(output, copy)
        for file in (copy / "videos").iterdir():
            pq.write_table(pq.read_table(file).drop_columns([column]), file)
        if column == "scores":
            with pytest.raises(DataError, match="expected a column scores"):
                read_video(str(copy), wrong["video_id"])
        else:
            assert read_video(str(copy), wrong["video_id"]).difference_stderr is None
    with pytest.raises(DataError):
        read_video(str(tmp_path), "v1")


# --- the terminal


@pytest.mark.parametrize("width", [80, 200])
def test_lines_fit_and_say_it_all(output: Path, width: int) -> None:
    wrong, right = wrong_and_right(output)
    for row in (wrong, right):
        video = read_video(str(output), row["video_id"])
        lines = video_lines(video, width=width)
        assert all(len(line) <= max(80, width) for line in lines)
        assert not any("\x1b" in line for line in lines), "names cannot command the terminal"
        outcome = "classified correctly" if row is right else "misclassified"
        assert f"{video.n} elements, {outcome}; " in lines[0]
        bars = [line for line in lines if "│" in line]
        panels = len(video.classes) + (row is wrong)
        assert len(bars) == panels * video.n
        assert ("most misleading: element" in lines[-1]) == (row is wrong)
        for line, value in zip(bars, video.classes[0].esv.tolist(), strict=False):
            left, _, rest = line.partition("│")
            assert ("█" in left) <= (value < 0)
            assert re.search(r"[▏▎▍▌▋▊▉█]", rest) is None or value > 0


def bare(n: int, values: list[float]) -> AttributedVideo:
    from esv_ray.show.video import ClassEsvs

    esvs = ClassEsvs(0, None, 0.5, 0.5, np.array(values), None)
    return AttributedVideo("x", np.arange(n), None, 0, [esvs], in_logits=False, exact=True, evaluations=1)


def test_sums_with_a_sampling_error_are_no_equation() -> None:
    video = bare(2, [0.25, -0.125])  # Algorithm 1: ESVs need not sum to score - prior
    assert "probability 0.500 ~ prior 0.500 + 0.250 supporting - 0.125 distracting" in video_lines(video, width=80)
    exact = bare(2, [0.25, -0.25])
    assert "probability 0.500 = prior 0.500 + 0.250 supporting - 0.250 distracting" in video_lines(exact, width=80)


def test_all_blocks_have_the_same_decimals(output: Path) -> None:
    lines = video_lines(read_video(str(output), wrong_and_right(output)[0]["video_id"]), width=80)
    values = [line.split()[-1] for line in lines if re.match(r" *\d+ +\d+ .*[+-]\d", line)]
    assert len(values) > 4
    assert len({len(value) for value in values}) == 1


def test_zeros_and_single_elements() -> None:
    assert "+0.000" in video_lines(bare(2, [0.0, 0.0]), width=80)[-1]
    assert "no label" in video_lines(bare(1, [0.25]), width=80)[0]
    assert video_lines(bare(1, [1e-9]), width=40)[-1].endswith("+0.00000000")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8", None])
def test_terminals_of_any_encoding(output: Path, encoding: str | None) -> None:
    lines = video_lines(read_video(str(output), wrong_and_right(output)[0]["video_id"]), width=80)
    text = encodable("\n".join(lines), encoding)
    assert text.encode(encoding or "utf-8")
    assert [len(line) for line in text.splitlines()] == [len(line) for line in lines]
    assert ("█" in text) == (encoding not in ("ascii", "latin-1"))


# --- files


def media_of(video: AttributedVideo, folder: Path) -> str:
    (folder / video.video_id).mkdir(parents=True)
    for frame in video.frame_index.tolist()[1:]:
        (folder / video.video_id / f"frame_{frame:05d}.png").write_bytes(png(8, 10 * frame % 255))
    return str(folder)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["png", "svg", "html"])
def test_pictures(output: Path, tmp_path: Path, kind: str) -> None:
    wrong, _ = wrong_and_right(output)
    video = read_video(str(output), wrong["video_id"])
    out = tmp_path / f"video.{kind}"
    done = show(output, wrong["video_id"], "--out", out, "--media", media_of(video, tmp_path / "media"))
    assert done.exit_code == 0, done.output
    assert f"no picture of 1 frame: [{video.frame_index[0]}]" in done.output
    data = out.read_bytes()
    if kind == "png":
        assert data.startswith(b"\x89PNG")
        assert len(data) > 10_000
        return
    text = data.decode()
    assert text.count("<image") == (video.n - 1) * (2 if kind == "html" else 1)
    assert text.count("data:image/png;base64,") == text.count("<image")
    assert "\x1b" not in text
    assert "<b>" not in text
    assert "<script" not in text
    if kind == "svg":
        root = ElementTree.fromstring(text)  # our own
        assert root.tag.endswith("svg")
    else:
        assert text.startswith("<!doctype html>")
        assert text.count("<svg") == 2, "light and dark"
        assert "prefers-color-scheme: dark" in text
        assert "http" not in text.replace("http://www.w3.org", ""), "the page needs nothing else"
        assert text.count("<tr>") == 1 + video.n


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("--out", "x.gif"), "output: expected a file that ends in .png, .svg or .html, got 'x.gif'"),
        (("--media", "somewhere"), "give --output too"),
        (("--elements", "0"), "0 is not in the range"),
    ],
)
def test_wrong_options(output: Path, arguments: tuple[str, ...], part: str) -> None:
    done = show(output, "v3", *arguments)
    assert done.exit_code != 0
    assert part in done.output + str(done.exception)


def test_wrong_media(output: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.svg"
    (tmp_path / "others").mkdir()
    empty = show(output, "v3", "--out", out, "--media", tmp_path)
    assert "expected pictures VIDEO_ID/NUMBER.jpg, .png or .webp, or a video" in str(empty.exception)
    assert "for the id 'v3', found none; check --media" in str(empty.exception)
    (tmp_path / "v3").mkdir()
    (tmp_path / "v3" / "0.jpg").write_bytes(b"<svg onload=alert(1)>")
    fake = show(output, "v3", "--out", out, "--media", tmp_path)
    assert "picture of frame 0: expected a JPEG, PNG or WebP file, got bytes that begin with 3c 73" in str(
        fake.exception
    )
    assert not out.exists()


def test_pictures_take_their_own_height(output: Path) -> None:
    """The panels keep one scale of values, and no gap opens below the row of pictures."""
    video = read_video(str(output), wrong_and_right(output)[0]["video_id"])
    url = f"data:image/png;base64,{base64.b64encode(png(8, 100)).decode()}"
    plain, with_pictures = (
        ElementTree.fromstring(picture_of(video_chart(video, thumbnails=urls), "svg")) for urls in ([], [url] * video.n)
    )
    side = 44 - 2
    assert float(with_pictures.attrib["height"]) - float(plain.attrib["height"]) == pytest.approx(side + 18, abs=3)

    def ticks(root: ElementTree.Element) -> list[str]:
        labels = [text.text or "" for text in root.iter("{http://www.w3.org/2000/svg}text")]
        return [text for text in labels if re.fullmatch("[\u2212-]?[0-9]+[.][0-9]+", text)]

    assert ticks(with_pictures) == ticks(plain)


# --- standard errors


def test_every_place_with_standard_errors_says_what_they_are(output: Path, tmp_path: Path) -> None:
    """Terminal, figures, pages of values, reports: where there are none, nothing is said of them."""
    sampled, exact = (row["video_id"] for row in (rows_of(output, "videos")[-1], rows_of(output, "videos")[0]))
    note = "standard error, the typical distance of a sampled ESV from the exact one; with the adjusted estimator it is"
    for video_id, expected in ((sampled, True), (exact, False)):
        video = read_video(str(output), video_id)
        assert video.has_errors is expected
        pages = [" ".join(" ".join(video_lines(video, width=70)).split()), values_table(video)]
        for suffix in ("svg", "html"):
            done = show(output, video_id, "--output", tmp_path / f"v.{suffix}")
            assert done.exit_code == 0, done.output
            text = (tmp_path / f"v.{suffix}").read_text()
            pages.append(re.sub(r"\s+", " ", re.sub(r"</?t[^>]*>", " ", text)))
        pages.append(key_html([ShownVideo(video, ())]))
        assert [(note in page) for page in pages] == [expected] * len(pages)
        assert [("±" in page or "&plusmn;" in page) for page in pages[:2]] == [expected] * 2


def test_no_other_words_for_a_standard_error() -> None:
    """There is one sentence, in one place; a sign for errors elsewhere has to come with it."""
    package = Path(esv_ray.__file__).parent
    sources = [path for end in ("py", "js") for path in package.rglob(f"*.{end}")]
    signs = {
        str(path.relative_to(package))
        for path in sources
        if re.search(r"±|&plusmn;", path.read_text()) and "standard_error_note" not in path.read_text()
    }
    assert signs == {"dashboard/static/steps.js"}, "esvs.js shows the sentence that dashboard/video.py sends"
    assert "standard_error_note" in (package / "dashboard/video.py").read_text()
