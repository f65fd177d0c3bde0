"""Frames per second of `esv extract`, against a plain loop over the same videos with the same libraries.

python -m esv_ray.bench.extraction
python -m esv_ray.bench.extraction --clips 32 --frames 300 --size 360 640 --repeats 5

The command makes clips with noise, so that they take as long to decode as filmed ones. The plain loop opens each clip
with PyAV and gives its frames in batches of 32 to the module: on one thread, and with the threads that PyAV and torch
take by themselves. All take turns, so that other work on the machine disturbs them alike; medians are compared. The
time of `esv extract` begins when all actors work: Ray and they take some seconds to start, however many videos there
are.

On a machine that does other work, several processes get more of it than one. Therefore CPU times per frame are
compared, too, which depend less on that: they say how much faster `esv extract` can be on as many idle cores.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from statistics import median
from time import perf_counter
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import torch
from torch import nn

from esv_ray.consent import factory
from esv_ray.core.threads import torch_settings
from esv_ray.extraction.work import extract
from esv_ray.job.on_ray.runtime import ray_runtime
from esv_ray.job.progress import Progress
from esv_ray.machine import cores
from esv_ray.spec_extract import ExtractSpec, load_extract_spec

PLAIN, THREADED, ESV = "plain loop, one thread", "plain loop, threads of the libraries", "esv extract"
_BACKBONE = "esv_ray.bench.extraction:small_network"
_BATCH = 32
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_LEAST_COSINE = 0.98  # between features of both: they round colors in different ways


@factory
def small_network(pixels: int = 112, width: int = 32) -> tuple[nn.Module, dict[str, Any]]:
    """Return a small convolutional network of fixed random weights, and how its images are prepared."""
    generator = torch.Generator().manual_seed(0)
    sizes = (3, width, 2 * width, 4 * width)
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.ReLU()]
    module = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / max(1, parameter[0].numel()) ** 0.5)
    return module, {"size": [pixels, pixels], "mean": list(_MEAN), "std": list(_STD)}


@dataclass(frozen=True)
class Setting:
    """What is measured.

    Attributes:
        clips: locations of the clips.
        frames: of all clips.
        arguments: of `small_network`.
    """

    clips: Sequence[Path]
    frames: int
    arguments: dict[str, int]


@dataclass(frozen=True)
class Run:
    """One run over all clips: its seconds, and the features of the first clip."""

    seconds: float
    features: npt.NDArray[np.float32]
    note: str = ""


def write_clip(path: Path, frames: int, height: int, width: int, seed: int) -> None:
    """Write an H.264 clip of a moving picture with noise, 25 frames per second."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=25, options={"crf": "23", "g": "50", "preset": "veryfast"})
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for number in range(frames):
            t = number / 25 + seed
            bands = np.stack([np.sin(9 * x + t), np.sin(7 * y - t), np.sin(5 * (x + y) + 2 * t)], axis=-1)
            image = 128 + 90 * bands + rng.normal(0, 6, (height, width, 1))
            frame = av.VideoFrame.from_ndarray(np.clip(image, 0, 255).astype(np.uint8), format="rgb24")
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))


def plain_loop(setting: Setting, threads: int | None) -> Run:
    """Decode and encode one clip after another, as a short script does.

    Args:
        setting: what is measured.
        threads: of the decoder and of torch; None: as many as they take by themselves.
    """
    module, preparation = small_network(**setting.arguments)
    module.eval()
    side = preparation["size"][0]
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (_MEAN, _STD))
    torch.set_num_threads(cores() if threads is None else threads)

    def encode(images: Sequence[npt.NDArray[Any]]) -> torch.Tensor:
        values = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
        with torch.inference_mode():
            features: torch.Tensor = module((values - mean) / std)
        return features

    first: list[torch.Tensor] = []
    begun = perf_counter()
    for clip in setting.clips:
        features: list[torch.Tensor] = []
        images: list[npt.NDArray[Any]] = []
        with av.open(str(clip)) as file:
            stream = file.streams.video[0]
            if threads is None:
                stream.thread_type = "AUTO"
            else:
                stream.codec_context.thread_count = threads
            for frame in file.decode(stream):
                images.append(frame.reformat(side, side, "rgb24").to_ndarray())
                if len(images) == _BATCH:
                    features.append(encode(images))
                    images = []
        features += [encode(images)] if images else []
        first = first or features
    return Run(perf_counter() - begun, torch.cat(first).numpy())


def with_esv(setting: Setting, folder: Path, turn: int) -> Run:
    """Run `esv extract` over all frames, with its defaults but for small units, which end at nearly the same time."""
    table = folder / f"table-{turn}"
    reports: list[Progress] = []
    extract(_spec(setting, folder, table), reports.append)
    most = max(each.actors for each in reports)
    busiest = max((each for each in reports if each.actors == most), key=lambda each: each.counts.rows)
    note = f"{most} actors; decoding {_share(busiest.read_s, busiest)}, backbone {_share(busiest.compute_s, busiest)}"
    rows = pq.read_table(table / "features", columns=["video_id", "features"]).sort_by("video_id")
    first = np.array(rows.column("features")[0].as_py(), np.float32)
    return Run(len(setting.clips) / steady_rate(reports), first, f"{note} of their time")


def steady_rate(reports: Sequence[Progress]) -> float:
    """Return the videos per second from when all actors are ready until the last video is committed."""
    most = max(each.actors for each in reports)
    begin = next(each for each in reports if each.actors == most)
    if most == 1:
        begin = reports[0]
    end = next(each for each in reports if each.counts.rows == reports[-1].counts.rows)
    return (end.counts.rows - begin.counts.rows) / max(1e-9, end.seconds - begin.seconds)


def _spec(setting: Setting, folder: Path, table: Path) -> ExtractSpec:
    arguments = [f"arguments.{name}={value}" for name, value in setting.arguments.items()]
    places = [f"videos={folder / 'clips'}", f"output={table}"]
    return load_extract_spec(
        None,
        [*places, f"backbone={_BACKBONE}", "frames=all", f"compute.batch={_BATCH}", "compute.unit=1", *arguments],
        code=["esv_ray"],
    )


def _share(seconds: float, end: Progress) -> str:
    return f"{seconds / max(1e-9, end.seconds * max(1, end.actors)):.0%}"


def cpu_seconds(setting: Setting, folder: Path) -> tuple[float, float]:
    """Return the CPU seconds per frame of the plain loop on one thread, and of `esv extract` in this process.

    The latter is the difference between two runs, over all clips and over half of them, so that starts do not count.
    """
    half = len(setting.clips) // 2
    plain_loop(setting, 1)  # it fills caches, as the first extraction does
    begun = _cpu()
    plain_loop(setting, 1)
    plain = (_cpu() - begun) / setting.frames
    taken = []
    for count in (1, half, len(setting.clips)):
        spec = _spec(setting, folder, folder / f"here-{count}")
        listed = folder / f"{count}.csv"
        listed.write_text("\n".join(["path", *map(str, setting.clips[:count]), ""]))
        here = spec.cluster.model_copy(update={"actors": 0})
        begun = _cpu()
        extract(spec.model_copy(update={"videos": str(listed), "cluster": here}))
        taken.append(_cpu() - begun)
    frames = setting.frames * (len(setting.clips) - half) / len(setting.clips)
    return plain, (taken[-1] - taken[-2]) / frames


def _cpu() -> float:
    """Return the CPU seconds of this process and of its children that have ended."""
    used = (getrusage(who) for who in (RUSAGE_SELF, RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


def measure(setting: Setting, folder: Path, repeats: int) -> dict[str, list[Run]]:
    """Run each way in turn; one more run of `esv extract` comes first and is not counted, since it fills caches.

    Raises:
        RuntimeError: the features differ by more than rounding.
    """
    ways: dict[str, Callable[[int], Run]] = {
        PLAIN: lambda _: plain_loop(setting, 1),
        THREADED: lambda _: plain_loop(setting, None),
        ESV: lambda turn: with_esv(setting, folder, turn),
    }
    runs: dict[str, list[Run]] = {name: [] for name in ways}
    spec = _spec(setting, folder, folder)
    with torch_settings(), ray_runtime(spec.cluster, spec.compute.threads):
        with_esv(setting, folder, -1)
        for turn in range(repeats):
            for name, way in ways.items():
                runs[name].append(way(turn))
                _check_same(runs[PLAIN][0].features, runs[name][-1].features)
    return runs


def _check_same(expected: npt.NDArray[np.float32], found: npt.NDArray[np.float32]) -> None:
    if expected.shape != found.shape:
        raise RuntimeError(f"expected features {expected.shape}, got {found.shape}")
    lengths = np.linalg.norm(expected, axis=1) * np.linalg.norm(found, axis=1)
    least = float(((expected * found).sum(axis=1) / lengths).min())
    if least < _LEAST_COSINE:
        raise RuntimeError(f"expected the same features, got a cosine of {least:.3f}")


def lines(setting: Setting, runs: dict[str, list[Run]]) -> list[str]:
    """Return the result for people."""
    rates = {name: [setting.frames / run.seconds for run in of_way] for name, of_way in runs.items()}
    made = [
        f"{name:<{max(map(len, rates))}}  {median(values):8.1f} frames/s  ({min(values):.1f} to {max(values):.1f})"
        for name, values in rates.items()
    ]
    for name in (PLAIN, THREADED):
        ratios = [new / old for new, old in zip(rates[ESV], rates[name], strict=True)]
        made.append(f"{ESV} / {name}: {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    return [*made, runs[ESV][-1].note]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--frames", type=int, default=100, help="of a clip")
    parser.add_argument("--size", type=int, nargs=2, default=(360, 640), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--pixels", type=int, default=224, help="of the images that the network takes")
    parser.add_argument("--width", type=int, default=16, help="channels of the network's first layer")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clips = [folder / "clips" / f"clip-{number:03d}.mp4" for number in range(options.clips)]
        clips[0].parent.mkdir()
        for number, clip in enumerate(clips):
            write_clip(clip, options.frames, options.size[0], options.size[1], number)
        setting = Setting(clips, options.clips * options.frames, {"pixels": options.pixels, "width": options.width})
        before = os.getloadavg()[0]
        with torch_settings():
            plain, ours = cpu_seconds(setting, folder)
        runs = measure(setting, folder, options.repeats)
    height, width = options.size
    print(
        f"{options.clips} clips of {options.frames} frames, {width} x {height}, to {options.pixels} pixels; "
        f"{cores()} cores, load before {before:.1f}; medians of {options.repeats}"
    )
    print("\n".join(lines(setting, runs)))
    print(
        f"CPU per frame: plain loop {1e3 * plain:.2f} ms, esv extract {1e3 * ours:.2f} ms: on {cores()} idle cores at "
        f"most {cores() * plain / ours:.2f} times as fast"
    )


if __name__ == "__main__":
    main()
