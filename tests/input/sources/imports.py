"""Imports of features as tests want them: made from few lines, and read back by the project's own reader."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from esv_ray import storage
from esv_ray.input.features import Video
from esv_ray.input.sources.importing import import_features
from esv_ray.input.sources.outcome import ImportResult
from esv_ray.input.sources.request import Format, ImportRequest
from esv_ray.input.videos import read_videos


def imported(kind: Format, source: str | Path, out: str | Path, **options: Any) -> ImportResult:
    """Import; a CSV may be given as its text."""
    for name in ("labels", "segments", "classes"):
        if "\n" in options.get(name, ""):
            file = Path(out).parent / f"{name}-{abs(hash(options[name]))}.csv"
            file.write_text(options[name])
            options[name] = str(file)
    return import_features(ImportRequest(kind, str(source), str(out), **options))


def table(out: str | Path) -> dict[str, Video]:
    """The videos of a table, by id; no row of it has a fault."""
    videos, faults = read_videos(str(out))
    assert not faults
    return {video.video_id: video for video in videos}


def save_arrays(folder: Path, arrays: Mapping[str, npt.ArrayLike]) -> Path:
    """A folder of .npy files, by path without suffix."""
    for name, array in arrays.items():
        path = folder / f"{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.asarray(array), allow_pickle=True)
    return folder


def random_videos(names: list[str], *, dim: int = 4, seed: int = 0) -> dict[str, npt.NDArray[np.float32]]:
    """Videos of 3 to 9 frames."""
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal((3 + index % 7, dim)).astype(np.float32) for index, name in enumerate(names)}


def assert_holds(out: str | Path, videos: Mapping[str, npt.NDArray[Any]]) -> None:
    """A table holds these videos, in the order of their ids."""
    rows = table(out)
    assert list(rows) == list(videos)
    for name, expected in videos.items():
        np.testing.assert_array_equal(rows[name].features, expected)


def put(url: str, path: Path) -> str:
    """Copy a file or a folder to a location."""
    files = [path] if path.is_file() else [file for file in sorted(path.rglob("*")) if file.is_file()]
    for file in files:
        target = url if path.is_file() else storage.join(url, *file.relative_to(path).parts)
        storage.replace(target, file.read_bytes(), "put")
    return url
