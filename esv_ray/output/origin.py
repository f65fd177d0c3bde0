"""The origin of a unit's files: the job and the rows, named by the footer of each (issue 15)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq

from esv_ray.errors import DataError, JobError
from esv_ray.output.files import open_parquet
from esv_ray.output.layout import PlannedUnit

FOOTER_KEY = b"esv_ray"


@dataclass(frozen=True)
class Origin:
    """The job and the rows of a file of a unit; part of its footer.

    Attributes:
        job: fingerprint of everything that the job's results depend on besides the rows (`Manifest.job`).
        input: checksum of the input (`PlannedUnit.input`): of the footer of the feature table's file.
        covers: the rows (`PlannedUnit.covers`): unit, row group, start, stop.
    """

    job: str
    input: str
    covers: tuple[int, ...]

    def check(self, found: Origin, location: str) -> None:
        """Refuse a file that has another origin.

        Raises:
            JobError: says which of the two differs, expected and got.
        """
        if found.job != self.job:
            raise JobError(
                f"{location}: expected a file of this job ({self.job}), got one of another job ({found.job}); "
                "`esv verify --repair` on the output moves it aside, then run the job again"
            )
        if (found.covers, found.input) != (self.covers, self.input):
            of_others = "" if found.input == self.input else " of another file of features"
            raise JobError(
                f"{location}: expected the rows {self.covers} in run.json (unit, row group, start, stop), got "
                f"{found.covers}{of_others}; `esv verify --repair` on the output moves it aside, then run the job again"
            )

    def check_file(self, data: bytes, url: str) -> None:
        """Refuse the bytes of a file of a unit if they are of another job. Damaged bytes pass: no mark refers to them.

        Raises:
            JobError: says which job and rows were expected and got.
        """
        try:
            found = origin_of(open_parquet(data, url).metadata, url)
        except DataError:
            return
        self.check(found, url)


def origin_for(unit: PlannedUnit, job: str) -> Origin:
    """Return the origin of the files of a unit of a job; it does not depend on locations."""
    return Origin(job, unit.input, unit.covers)


def origin_of(metadata: pq.FileMetaData, location: str) -> Origin:
    """Parse the origin in the footer of a file of a unit.

    Raises:
        DataError: the file is not of esv_ray.
    """
    return content_of(metadata, location)[0]


def content_of(metadata: pq.FileMetaData, location: str) -> tuple[Origin, dict[str, Any]]:
    """Parse the footer of a file of a unit: its origin, and all of its content.

    Raises:
        DataError: the file is not of esv_ray.
    """
    try:
        content = json.loads((metadata.metadata or {})[FOOTER_KEY])
        job, input_checksum, covers = content["job"], content["input"], tuple(content["covers"])
        texts = isinstance(job, str) and isinstance(input_checksum, str)
        if not texts or not all(type(number) is int and number >= 0 for number in covers):
            raise ValueError(content)
    except (KeyError, TypeError, ValueError, RecursionError):
        raise DataError(f"{location}: expected a file of esv_ray, its footer names no job and rows") from None
    return Origin(job, input_checksum, covers), content
