"""The command `esv explain`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import click

from esv_ray.cli.factory_arguments import argument_option, weights_option
from esv_ray.cli.options import check_code, option_group, output_option, set_option
from esv_ray.cli.types import LOCATION, NAME, Count, Real


@dataclass(frozen=True)
class ExplainArguments:
    """The requested explanation, by the options' names."""

    model: str
    backbone: str | None
    arguments: dict[str, Any]
    weights: str | None
    code: tuple[str, ...]
    table: str | None
    frames: int | None
    fps: float | None
    all_frames: bool
    classes: tuple[str, ...]
    overrides: tuple[str, ...]

    def extraction(self) -> dict[str, Any]:
        """Return the options of an extraction that are given.

        Raises:
            UsageError: two of them say which frames.
        """
        asked = {"--frames": self.frames, "--fps": self.fps, "--all": self.all_frames or None}
        names = [name for name, given in asked.items() if given is not None]
        if len(names) > 1:
            raise click.UsageError(f"expected one of --frames, --fps and --all, got {' and '.join(names)}")
        values: dict[str, Any] = {"backbone": self.backbone, "weights": self.weights}
        values |= {"arguments": self.arguments or None}
        values |= {"frames": "all" if self.all_frames else self.frames, "fps": self.fps}
        return {name: value for name, value in values.items() if value is not None}


_options = option_group(
    ExplainArguments,
    "request",
    click.option(
        "--model",
        type=LOCATION,
        metavar="URL",
        required=True,
        help="Model bundle (a folder with model.json).",
    ),
    click.option(
        "--backbone",
        type=NAME,
        metavar="NAME",
        help="pooled, package.module:function, or onnx:FILE (default: that of the table the model was trained on).",
    ),
    argument_option,
    weights_option,
    click.option(
        "--code",
        multiple=True,
        metavar="PACKAGE",
        callback=check_code,
        help="Allow code of this Python package to build the model or the backbone. Repeatable.",
    ),
    click.option(
        "--features",
        "table",
        type=LOCATION,
        metavar="URL",
        help="Feature table of esv extract whose backbone to use.",
    ),
    click.option(
        "--frames",
        type=Count(min=1),
        metavar="N",
        help="Number of frames per clip, evenly spaced (default: that of the table whose backbone is used, else 16).",
    ),
    click.option("--fps", type=Real(0, min_open=True), metavar="F", help="Frames per second, by time stamps."),
    click.option("--all", "all_frames", is_flag=True, help="Every frame."),
    click.option(
        "--class",
        "classes",
        type=NAME,
        multiple=True,
        metavar="CLASS",
        help="Class to show: predicted, an id or a name (default: predicted). Repeatable.",
    ),
    set_option,
)


@click.command(short_help="Explain video files: from a clip to its picture.")
@click.argument("clips", type=LOCATION, nargs=-1, required=True, metavar="CLIP...")
@_options
@output_option(
    "Write a picture (.png, .svg) or a page (.html) instead of printing. Requires: pip install 'esv-ray[figures]'.",
    into="out",
)
def explain(clips: tuple[str, ...], request: ExplainArguments, out: str | None) -> None:
    """Show how much each frame of a video file contributed to the scores of a model.

    A CLIP is a video file, or a folder, glob or list of them as for esv extract; at most 100 videos. The
    command decodes frames, computes their features with the backbone, and computes ESVs, all in this process, without
    tables and without Ray. The values are those of esv extract and esv attribute.

    With --output, the frames appear below the bars. A page has a section per clip; a .png or .svg file shows one clip.

    Requires: pip install 'esv-ray[video]'.

    \b
    Examples:
      esv explain clip.mp4 --model model/
      esv explain clip.mp4 --model model/ --backbone pooled --frames 8 --output clip.html
      esv explain clips/ --model model/ --features table/ --class "Dropping something" --output clips.html
      esv explain clip.mp4 --model model/ --set estimator.m=64 --set size=224

    \b
    Exit codes:
      0  the clips were explained
      2  a clip cannot be decoded, the model does not take the backbone's features, or an option is invalid
    """
    from esv_ray.clips.request import ClipRequest, clips_of

    asked = ClipRequest(
        clips,
        request.model,
        request.code,
        request.extraction(),
        request.table,
        request.overrides,
        request.classes,
        pictures=out is not None,
    )
    if out is not None:
        from esv_ray.clips.pages import check_file

        check_file(out, len(clips_of(asked)))
    from esv_ray.clips.explaining import explain_clips
    from esv_ray.show.terminal import encodable, video_lines

    explained = explain_clips(asked)
    for clip in explained:
        for remark in clip.remarks:
            click.echo(f"{clip.path}: {remark}", err=True)
    if out is None:
        blocks = ["\n".join(video_lines(clip.video)) for clip in explained]
        click.echo(encodable("\n\n".join(blocks), sys.stdout.encoding))
        return
    from esv_ray.clips.pages import write_clips

    write_clips(explained, out)
    click.echo(f"written: {out}")
