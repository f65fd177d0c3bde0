"""run.json of an extraction: its plan. The videos are in a file of their own beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt

from esv_ray import storage
from esv_ray.errors import DataError, short_text
from esv_ray.extraction.units import VideoUnit, units_of
from esv_ray.extraction.videos.clip import clips_checksum, read_clips
from esv_ray.extraction.videos.columns import schema_of
from esv_ray.output.layout import EXTRACTED, FEATURES, THUMBNAILS
from esv_ray.output.plan_file import PlanFile
from esv_ray.spec import fingerprint

WORK = "extraction"
CLIPS = "_clips"
"""Folder of the file that lists the videos of the plan."""
_DOING = "read the plan of the extraction"


class Written(BaseModel):
    """Content of run.json.

    Attributes:
        format: 1.
        work: tells it from the run.json of other work.
        spec: of the extraction; informative, but for `output`.
        keys: everything that features depend on, besides the videos.
        versions: of the software; informative.
        backbone: what the metadata of the table says (`backbones.backbone.BackboneInfo`).
        videos: number of videos.
        clips: checksum of the videos.
        unit: videos of a unit.
        labelled: whether any video has a label.
        names: of the classes by id, if labels are names.
        further: Arrow types of the further columns of the list, by name (`videos.columns`).
        checksum: of the rest.
    """

    model_config = ConfigDict(strict=True, frozen=True)

    format: Literal[1] = 1
    work: Literal["extraction"] = "extraction"
    spec: dict[str, Any]
    keys: dict[str, Any]
    versions: dict[str, str]
    backbone: dict[str, Any]
    videos: Annotated[StrictInt, Field(ge=1)]
    clips: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
    unit: Annotated[StrictInt, Field(ge=1)]
    labelled: bool
    names: list[str] | None = None
    further: dict[str, str] = Field(default_factory=dict)
    checksum: str = ""


_FILE = PlanFile(Written, WORK, "an extraction", "--out")


@dataclass(frozen=True)
class ExtractionPlan:
    """The plan of an extraction (`output.layout.Plan`).

    Attributes:
        written: run.json.
        units: all units.
    """

    written: Written
    units: tuple[VideoUnit, ...]

    @property
    def folders(self) -> tuple[str, ...]:
        """Folders of its tables; the mark's is the first."""
        return (EXTRACTED, FEATURES, *([THUMBNAILS] * bool(self.written.keys["thumbnails"])))

    @cached_property
    def job(self) -> str:
        """Fingerprint of all that the tables depend on besides the videos."""
        return fingerprint(self.written.keys)


def clips_url(output: str, checksum: str) -> str:
    """Return where the videos of a plan are listed."""
    return storage.join(output, CLIPS, f"{checksum}.parquet")


def read_run(output: str) -> Written | None:
    """Read the run.json of an extraction; return None if there is none; errors as `PlanFile.read`."""
    return _FILE.read(output)


def commit_run(output: str, written: Written) -> bool:
    """Create run.json; return False if another driver was first."""
    return _FILE.commit(output, written)


def plan_of(output: str, written: Written) -> ExtractionPlan:
    """Return the plan with its units, whose videos are read from the file beside run.json.

    Raises:
        DataError: the file is missing or has other content.
    """
    url = clips_url(output, written.clips)
    try:
        further = schema_of(written.further)
    except ValueError as error:
        raise DataError(f"{output}: expected types of columns in run.json, got: {short_text(error)}") from None
    clips = read_clips(storage.read_bytes(url, _DOING), url, further)
    if clips_checksum(clips) != written.clips or len(clips) != written.videos:
        raise DataError(f"{url}: expected the videos of this extraction, got others; put the file back, or start again")
    return ExtractionPlan(written, units_of(clips, written.clips, written.unit))


def check_same(output: str, written: Written, keys: Mapping[str, object]) -> None:
    """Refuse to continue an extraction with other settings; errors as `PlanFile.check_same`."""
    _FILE.check_same(output, written.keys, keys)
