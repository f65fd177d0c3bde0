"""run.json of an extraction: its plan. The videos are in a file of their own beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt, ValidationError

from esv_ray import storage
from esv_ray.errors import DataError, JobError
from esv_ray.extraction.units import VideoUnit, units_of
from esv_ray.extraction.videos.clip import clips_checksum, read_clips
from esv_ray.output.layout import EXTRACTED, FEATURES, RUN, THUMBNAILS
from esv_ray.output.manifest import checksum_of
from esv_ray.spec import fingerprint

WORK = "extraction"
CLIPS = "_clips"
"""Folder of the file that lists the videos of the plan."""
_DOING = "read the plan of the extraction"
_MOST_BYTES = 2**24


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
    checksum: str = ""


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
    """Read the run.json of an extraction; return None if there is none.

    Raises:
        JobError: it is of other work.
        DataError: it is damaged, or the storage refuses.
    """
    url = storage.join(output, RUN)
    if not storage.exists(url):
        return None
    data = storage.read_bytes(url, _DOING, most=_MOST_BYTES)
    try:
        raw = json.loads(data)
        if isinstance(raw, dict) and raw.get("work") != WORK:
            raise JobError(f"{output}: expected an extraction, found the output of other work; use another --out")
        if raw["checksum"] != checksum_of(raw):
            raise ValueError("its checksum does not match its content, so it was changed after it was written")
        return Written.model_validate(raw)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else None
        reason = str(error) if first is None else f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise DataError(
            f"{url}: expected the plan of an extraction, got something else ({' '.join(reason.split())[:200]}); move "
            "it away, then run the same command again: what is committed is kept"
        ) from None


def commit_run(output: str, written: Written) -> bool:
    """Create run.json; return False if another driver was first."""
    content = json.loads(written.model_dump_json(exclude={"checksum"}))
    data = json.dumps({**content, "checksum": checksum_of(content)}, indent=1, sort_keys=True) + "\n"
    return storage.commit_new(storage.join(output, RUN), data.encode(), "write the plan", check=True)


def plan_of(output: str, written: Written) -> ExtractionPlan:
    """Return the plan with its units, whose videos are read from the file beside run.json.

    Raises:
        DataError: the file is missing or has other content.
    """
    url = clips_url(output, written.clips)
    clips = read_clips(storage.read_bytes(url, _DOING), url)
    if clips_checksum(clips) != written.clips or len(clips) != written.videos:
        raise DataError(f"{url}: expected the videos of this extraction, got others; put the file back, or start again")
    return ExtractionPlan(written, units_of(clips, written.clips, written.unit))


def check_same(output: str, written: Written, keys: Mapping[str, object]) -> None:
    """Refuse to continue an extraction with other settings.

    Raises:
        JobError: names the keys that differ.
    """
    before = written.keys
    differ = [key for key in sorted({*before, *keys}) if before.get(key) != keys.get(key)]
    if differ:
        shown = "; ".join(f"{key}: expected {before.get(key)!r:.60}, got {keys.get(key)!r:.60}" for key in differ)
        raise JobError(f"{output} holds another extraction; {shown}. Use another --out, or the same options to resume")
