"""The measurement of extraction: every way gives the same features, and the result says which is how fast."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from esv_ray.bench import extraction
from esv_ray.bench.extraction import ESV, PLAIN, THREADED, Run, Setting, lines, plain_loop, steady_rate, write_clip
from esv_ray.core.threads import torch_settings
from esv_ray.job.progress import Progress
from esv_ray.job.work import RowCounts


def test_the_plain_loop_gives_a_feature_of_each_frame(tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    write_clip(clip, 5, 32, 48, seed=1)
    setting = Setting([clip], 5, {"pixels": 16, "width": 4})
    with torch_settings():
        one, all_threads = plain_loop(setting, 1), plain_loop(setting, None)
    assert one.features.shape == (5, 16)
    np.testing.assert_allclose(one.features, all_threads.features, rtol=1e-4, atol=1e-6)
    with pytest.raises(RuntimeError, match="expected the same features, got a cosine of -1"):
        extraction._check_same(one.features, -one.features)


def test_the_result_in_words() -> None:
    features = np.ones((1, 2), np.float32)
    runs = {
        name: [Run(seconds, features, "2 actors") for seconds in of_way]
        for name, of_way in ((PLAIN, (4.0, 8.0)), (THREADED, (2.0, 2.0)), (ESV, (2.0, 5.0)))
    }
    text = "\n".join(lines(Setting([], 8, {}), runs))
    assert text.startswith("plain loop, one thread                     1.5 frames/s  (1.0 to 2.0)\n")
    assert "esv extract / plain loop, one thread: 1.80 (1.60 to 2.00)" in text
    assert text.endswith("2 actors")


def test_the_time_of_extract_begins_when_all_actors_work() -> None:
    def at(seconds: float, actors: int, rows: int) -> Progress:
        return Progress(total=10, resumed=0, counts=RowCounts(rows, rows), actors=actors, seconds=seconds)

    reports = [at(0, 1, 0), at(4, 1, 2), at(5, 2, 2), at(9, 2, 6), at(13, 2, 10), at(14, 1, 10), at(15, 0, 10)]
    assert steady_rate(reports) == (10 - 2) / (13 - 5)
    assert steady_rate([at(0, 1, 0), at(5, 1, 10), at(6, 0, 10)]) == 10 / 5


@pytest.mark.slow
def test_it_is_measured_on_real_actors(capsys: pytest.CaptureFixture[str]) -> None:
    extraction.main(["--clips", "6", "--frames", "10", "--size", "48", "64", "--pixels", "16", "--repeats", "1"])
    said = capsys.readouterr().out
    assert "6 clips of 10 frames, 64 x 48, to 16 pixels" in said
    assert said.count("frames/s") == 3
