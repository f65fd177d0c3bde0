"""The spec of an extraction: which frames of which videos become features, by which backbone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from esv_ray import storage
from esv_ray.spec import ClusterSpec, Frozen, Source, load_as, packages, section, with_consent
from esv_ray.spec_text import describe_error
from esv_ray.spec_values import Location, Number, Positive, Text, Truth, one_or_many, whole_or_auto

FRAMES = 16
"""Frames of a video that are extracted by default."""

_MOST_SIDE = 4096


def _height_and_width(value: object) -> object:
    """Read a size: one number for a square, or height and width."""
    sizes = [] if value is None else one_or_many(value)
    if len(sizes) > 2 or (value is not None and not sizes):
        raise ValueError(f"expected one number of pixels, or height and width, got {value!r:.60}")
    return None if value is None else tuple(sizes) * (3 - len(sizes))


def _check_size(size: tuple[int, ...] | None) -> tuple[int, ...] | None:
    if size is not None and max(size) > _MOST_SIDE:
        raise ValueError(f"expected at most {_MOST_SIDE} pixels, got {max(size)}")
    return size


class ExtractComputeSpec(Frozen):
    """Settings of the computation that change features by rounding only.

    Attributes:
        batch: frames of a video that go through the backbone together.
        threads: torch threads of an actor, and the cores that it takes.
        decoders: threads of an actor that decode videos, each one at a time; `auto`: as many as `threads`.
        unit: videos of a unit, the piece of work that is committed whole; `auto`: depends on their number.
    """

    batch: Positive = 32
    threads: Positive = 1
    decoders: Annotated[Positive | Literal["auto"], BeforeValidator(whole_or_auto)] = "auto"
    unit: Annotated[Positive | Literal["auto"], BeforeValidator(whole_or_auto)] = "auto"


_Dtype = Literal["float16", "float32"]
_Size = Annotated[tuple[Positive, ...] | None, BeforeValidator(_height_and_width), AfterValidator(_check_size)]
_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class BackboneSpec(Frozen):
    """One of several backbones of an extraction. A key that is null has the value of the extraction.

    Attributes:
        backbone: as `ExtractSpec.backbone`.
        name: folder of its table in the output; null: made of the backbone's name.
        arguments, weights, size, clip, stride, dtype: as in `ExtractSpec`.
    """

    backbone: Text
    name: Text | None = None
    arguments: dict[str, Any] | None = None
    weights: Location | None = None
    size: _Size = None
    clip: Positive | None = None
    stride: Positive | None = None
    dtype: _Dtype | None = None

    @model_validator(mode="after")
    def _check_name(self) -> Self:
        if not _FOLDER.fullmatch(self.folder):
            raise ValueError(f"name: expected letters, digits, '.', '_' and '-', got {self.folder!r:.100}")
        return self

    @property
    def folder(self) -> str:
        """Folder of its table in the output: its name, else what follows the colon of the backbone."""
        if self.name is not None:
            return self.name
        last = self.backbone.partition(":")[2].rpartition("/")[2] or self.backbone
        return re.sub(r"[^A-Za-z0-9._]+", "-", last.removesuffix(".onnx")).strip("._-")[:100]

    def of(self, whole: ExtractSpec) -> ExtractSpec:
        """Return the extraction of this backbone alone."""
        own = self.model_dump(exclude={"name"}, exclude_none=True)
        return whole.model_copy(update={**own, "output": storage.join(whole.output, self.folder)})


def _backbones(value: object) -> object:
    """Read one backbone, or a list of several: names, or mappings."""
    if not isinstance(value, list | tuple):
        return value
    several = [each if isinstance(each, BackboneSpec) else _backbone(each) for each in value]
    if not several:
        raise ValueError("expected at least one backbone, got none")
    folders = [each.folder.casefold() for each in several]
    for place, each in enumerate(several):
        if folders[place] in folders[:place]:
            raise ValueError(
                f"expected tables of different names, got {each.folder!r} twice; give one of them a `name`"
            )
    return tuple(several)


def _backbone(value: object) -> BackboneSpec:
    values = {"backbone": value} if isinstance(value, str) else value
    if not isinstance(values, Mapping):
        raise ValueError(f"expected names of backbones, or mappings with the key backbone, got {value!r:.60}")
    try:
        return BackboneSpec.model_validate(dict(values))
    except ValidationError as error:
        described = describe_error(BackboneSpec, error.errors()[0])
        raise ValueError(f"expected a list of valid backbones, got an invalid one: {described}") from None


class ExtractSpec(Frozen):
    """An extraction; the documentation of the keys is in `docs/howto/extract.md`.

    Attributes:
        videos: folder, glob, file, or a CSV or Parquet file that lists videos.
        output: folder of the feature table.
        backbone: `pooled`, ``package.module:function``, or a kind of model and its name or file, as ``onnx:FILE``; or
            several, each with a table of its own in a folder of the output.
        arguments: keyword arguments of the function.
        weights: file with the weights of the backbone.
        code: Python packages whose code may run to build the backbone.
        labels: CSV with labels of the videos; names or ids of classes.
        classes: CSV (header name,id) with the class names.
        frames: number of frames of a video, spread evenly, or `all`; null: 16, unless `fps` is given.
        fps: frames per second, by time stamps.
        size: height and width of the images that the backbone takes; null: its own.
        clip: frames of an element, for backbones that take clips.
        stride: frames from the start of a clip to the start of the next.
        dtype: type of the features in the table.
        thumbnails: whether small images of the frames are kept beside the table.
        decoder: what decodes the videos.
        max_failed: share of failed videos above which the exit code is 1.
    """

    videos: Location
    output: Location
    backbone: Annotated[Text | tuple[BackboneSpec, ...], BeforeValidator(_backbones)]
    arguments: dict[str, Any] = Field(default_factory=dict)
    weights: Location | None = None
    code: Annotated[tuple[str, ...], BeforeValidator(packages)] = ()
    labels: Location | None = None
    classes: Location | None = None
    frames: Annotated[Positive | Literal["all"], BeforeValidator(lambda value: value)] | None = None
    fps: Annotated[Number, Field(gt=0, le=1000, allow_inf_nan=False)] | None = None
    size: _Size = None
    clip: Positive = 1
    stride: Positive = 1
    dtype: _Dtype = "float32"
    thumbnails: Truth = False
    decoder: Text = "pyav"
    max_failed: Annotated[Number, Field(ge=0, le=1)] = 0.01
    compute: Annotated[ExtractComputeSpec, BeforeValidator(section)] = ExtractComputeSpec()
    cluster: Annotated[ClusterSpec, BeforeValidator(section)] = ClusterSpec()

    @model_validator(mode="after")
    def _check_frames(self) -> Self:
        if self.frames is not None and self.fps is not None:
            raise ValueError(f"frames: expected either frames or fps, got {self.frames} and {self.fps:g}")
        return self

    @model_validator(mode="after")
    def _check_several(self) -> Self:
        for key in ("arguments", "weights"):
            if not isinstance(self.backbone, str) and getattr(self, key):
                raise ValueError(
                    f"{key}: expected none beside several backbones, got {getattr(self, key)!r:.60}; give each its "
                    f"own, as in backbone: [{{backbone: NAME, {key}: ...}}, ...]"
                )
        return self

    @property
    def extractions(self) -> tuple[ExtractSpec, ...]:
        """Extractions of one backbone each: this one, or of several backbones one for each table."""
        if isinstance(self.backbone, str):
            return (self,)
        return tuple(each.of(self) for each in self.backbone)

    @property
    def backbone_name(self) -> str:
        """Name of the backbone, or the names of several."""
        return self.backbone if isinstance(self.backbone, str) else ", ".join(each.backbone for each in self.backbone)

    @property
    def threads(self) -> int:
        """Torch threads of an actor."""
        return self.compute.threads

    @property
    def decoders(self) -> int:
        """Threads of an actor that decode videos."""
        decoders = self.compute.decoders
        return self.compute.threads if decoders == "auto" else decoders


def load_extract_spec(source: Source = None, overrides: Iterable[str] = (), *, code: Iterable[str] = ()) -> ExtractSpec:
    """Load and validate the spec of an extraction; arguments and errors as for `spec.load_spec`."""
    spec = load_as(ExtractSpec, source, overrides)
    places: dict[str, Any] = {
        key: storage.absolute(getattr(spec, key))
        for key in ("videos", "output", "weights", "labels", "classes")
        if getattr(spec, key) is not None
    }
    if not isinstance(spec.backbone, str):
        places["backbone"] = tuple(map(_with_absolute_weights, spec.backbone))
    return spec.model_copy(update={**places, "code": with_consent(spec.code, code)})


def _with_absolute_weights(backbone: BackboneSpec) -> BackboneSpec:
    weights = None if backbone.weights is None else storage.absolute(backbone.weights)
    return backbone.model_copy(update={"weights": weights})


def extract_keys(spec: ExtractSpec) -> dict[str, object]:
    """Return the keys on which features depend besides the videos, the labels and the backbone's weights, flat.

    Args:
        spec: an extraction of one backbone.
    """
    free = {"videos", "output", "code", "labels", "classes", "weights", "max_failed", "cluster"}
    values = spec.model_dump(mode="json", exclude=free)
    compute = values.pop("compute")
    arguments = values.pop("arguments")
    values["frames"] = FRAMES if spec.frames is None and spec.fps is None else spec.frames
    return {
        **values,
        "compute.batch": compute["batch"],
        **{f"arguments.{name}": value for name, value in arguments.items()},
    }
