"""The command `esv extract`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from esv_ray.cli.factory_arguments import argument_option, weights_option
from esv_ray.cli.options import (
    check_code,
    location_overrides,
    option_group,
    output_option,
    parse_size,
    retry_failed_option,
    set_option,
)
from esv_ray.cli.outcome import show_result
from esv_ray.cli.types import LOCATION, NAME, Count, LocalPath, Real
from esv_ray.show.text import printable
from esv_ray.signals import resumes

if TYPE_CHECKING:
    from esv_ray.spec_extract import ExtractSpec

_SPECS = (".yaml", ".yml")


@dataclass(frozen=True)
class ExtractArguments:
    """The requested extraction, by the options' names; `videos` may be a SPEC."""

    videos: str
    backbone: tuple[str, ...]
    output: str | None
    arguments: dict[str, Any]
    weights: str | None
    code: tuple[str, ...]
    labels: str | None
    classes: str | None
    frames: int | None
    fps: float | None
    all_frames: bool
    size: tuple[int, ...] | None
    clip: int | None
    stride: int | None
    dtype: str | None
    thumbnails: bool
    decoder: str | None
    actors: int | None
    address: str | None
    overrides: tuple[str, ...]

    def read(self) -> ExtractSpec:
        """Read and check the spec: that of the file, if there is one, with the options' values.

        Raises:
            UsageError: two options say which frames, or one is missing.
            EsvError: the spec is invalid, or cannot be read.
        """
        from esv_ray.spec_extract import load_extract_spec
        from esv_ray.spec_kinds import EXTRACTION, check_kind
        from esv_ray.spec_yaml import write_value

        file = self.videos if self.videos.lower().endswith(_SPECS) else None
        if file is not None:
            check_kind(file, EXTRACTION)
        location_overrides(file, {"backbone": next(iter(self.backbone), None), "output": self.output}, self.overrides)
        given = [f"{key}={write_value(value)}" for key, value in self._values(file).items()]
        return load_extract_spec(file, [*given, *self.overrides], code=self.code)

    def _values(self, file: str | None) -> dict[str, Any]:
        """Return the options that are given, by dotted keys of a spec.

        Raises:
            UsageError: two of them say which frames.
        """
        asked = [
            name
            for name, given in (("--frames", self.frames), ("--fps", self.fps), ("--all", self.all_frames or None))
            if given is not None
        ]
        if len(asked) > 1:
            raise click.UsageError(f"expected one of --frames, --fps and --all, got {' and '.join(asked)}")
        names = ("output", "weights", "labels", "classes", "clip", "stride", "dtype", "decoder")
        values: dict[str, Any] = {} if file is not None else {"videos": self.videos}
        values |= {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        if asked:  # a spec may ask for them in another way
            values |= {"frames": "all" if self.all_frames else self.frames, "fps": self.fps}
        if self.backbone:
            values["backbone"] = self.backbone[0] if len(self.backbone) == 1 else list(self.backbone)
        values |= {"size": list(self.size)} if self.size else {}
        values |= {f"arguments.{name}": value for name, value in self.arguments.items()}
        values |= {"thumbnails": True} if self.thumbnails else {}
        cluster = {"actors": self.actors, "address": self.address}
        return values | {f"cluster.{name}": value for name, value in cluster.items() if value is not None}


_options = option_group(
    ExtractArguments,
    "request",
    click.argument("videos", type=LOCATION),
    click.option(
        "--backbone",
        type=NAME,
        multiple=True,
        metavar="NAME",
        help="pooled, pixels, package.module:function, onnx:FILE, or timm:MODEL and its like. Repeatable.",
    ),
    output_option("Folder of the feature table."),
    argument_option,
    weights_option,
    click.option(
        "--code",
        multiple=True,
        metavar="PACKAGE",
        callback=check_code,
        help="Allow code of this Python package to build the backbone. Repeatable.",
    ),
    click.option("--labels", type=LOCATION, metavar="CSV", help="Labels; the header is video_id,label or path,label."),
    click.option(
        "--classes",
        type=LOCATION,
        metavar="CSV",
        help="Class names; the header is name,id. Without it, names of labels get ids in sorted order.",
    ),
    click.option(
        "--frames", type=Count(min=1), metavar="N", help="Number of frames per video, evenly spaced (default: 16)."
    ),
    click.option("--fps", type=Real(0, min_open=True), metavar="F", help="Frames per second, by time stamps."),
    click.option("--all", "all_frames", is_flag=True, help="Extract every frame."),
    click.option(
        "--size",
        metavar="PIXELS",
        callback=parse_size,
        help="Size of the images, PIXELS or HEIGHTxWIDTH (default: the backbone's).",
    ),
    click.option("--clip", type=Count(min=1), metavar="K", help="Number of frames per element, for clip backbones."),
    click.option(
        "--stride",
        type=Count(min=1),
        metavar="S",
        help="Number of frames from the start of one clip to the start of the next (default: 1).",
    ),
    click.option("--dtype", type=click.Choice(["float16", "float32"]), help="Type of the features (default: float32)."),
    click.option("--thumbnails", is_flag=True, help="Keep a small JPEG of each element beside the table."),
    click.option("--decoder", type=NAME, metavar="NAME", help="Library that decodes the videos (default: pyav)."),
    click.option(
        "--actors",
        type=Count(min=0),
        metavar="N",
        help="Maximum number of actors; 0: run in this process, without Ray (default: one per core or GPU).",
    ),
    click.option(
        "--address", type=NAME, metavar="ADDRESS", help="Ray cluster: auto or HOST:PORT (default: Ray on this machine)."
    ),
    set_option,
)


@click.command(short_help="Make a feature table from videos.")
@_options
@retry_failed_option
@click.option(
    "--log",
    type=LocalPath(),
    metavar="FILE",
    help="Append one line of JSON per unit, probe and fault to FILE (- for standard error).",
)
@click.pass_context
def extract(context: click.Context, request: ExtractArguments, retry_failed: bool, log: str | None) -> None:
    """Decode VIDEOS and compute a feature of each frame with a backbone: a feature table for `esv attribute`.

    VIDEOS is a folder (searched recursively), a glob, a video file, or a CSV or Parquet file with the columns path,
    and optionally video_id, label, start and end (seconds). Run the same command again to resume an interrupted run.

    A YAML file in place of VIDEOS is a SPEC, whose keys the options set or override.

    Without --frames, --fps or --all, 16 frames of each video are extracted, evenly spaced: every video then has the
    same number of elements, and takes the same time and space, whatever its length.

    With several backbones, videos are decoded once, and each backbone gets a table of its own in OUTPUT/NAME: NAME is
    pooled, pixels, or what follows the colon.

    Videos that cannot be decoded are counted, named, and listed with their reasons in OUTPUT/_videos.

    \b
    Examples:
      esv extract clips/ --backbone pooled --output table/
      esv extract extract.yaml --thumbnails
      esv extract s3://bucket/clips.csv --backbone onnx:resnet50.onnx --fps 4 --output s3://bucket/table/
      esv extract clips/ --backbone my_models.vit:make --code my_models --weights vit.pt --output table/
      esv extract clips/ --backbone timm:resnet50.a1_in1k --weights resnet50.safetensors --output table/
      esv extract clips/ --backbone pooled --thumbnails --output table/ --retry-failed
      esv extract clips/ --backbone pixels --size 224 --frames 8 --output images/
      esv extract clips/ --backbone pooled --backbone onnx:resnet50.onnx --output tables/

    \b
    Exit codes:
      0    done
      1    too many videos failed, or a unit could not be committed (run again to resume)
      2    the request is invalid
      130  interrupted (run again to resume)
    """
    from esv_ray.cli.progress import extract_progress
    from esv_ray.cli.unit_log import unit_log
    from esv_ray.output.layout import EXTRACTED

    resumes()
    spec = request.read()
    from esv_ray.extraction.work import extract as run

    with unit_log(log), extract_progress() as report:
        result = run(spec, report, retry_failed=retry_failed)
    tables = [each.output for each in spec.extractions]
    folder = EXTRACTED if len(tables) == 1 else f"*/{EXTRACTED}"
    show_result(result, "rows of features", count="feature_rows", folder=folder)
    for table in tables if len(tables) > 1 else ():
        click.echo(f"  {printable(table)}")
    context.exit(result.exit_code)
