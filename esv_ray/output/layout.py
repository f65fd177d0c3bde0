"""Where the files of an output lie (`docs/reference/output.md`)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

from esv_ray import storage
from esv_ray.errors import SpecError

RUN = "run.json"
SUCCESS = "_SUCCESS"
PROGRESS = "progress.json"
VIDEOS, ATTRIBUTIONS = "videos", "attributions"
MARGINALS, INTERACTIONS, DISCARDS, REPLACEMENTS = "marginals", "interactions", "discards", "replacements"
SMOOTHNESS, ORDER, SANITY = "smoothness", "order", "sanity"
VARIATIONS = (SMOOTHNESS, ORDER, SANITY)
"""Tables of what changes when the sequence or the model does."""
FURTHER = (MARGINALS, INTERACTIONS, DISCARDS, REPLACEMENTS, *VARIATIONS)
"""Tables that a job writes if its spec asks for them (`tables`)."""
FOLDERS = (VIDEOS, ATTRIBUTIONS, *FURTHER)
"""All tables. The file of the first one marks a unit as committed."""
EXTRACTED, FEATURES, THUMBNAILS = "_videos", "features", "_thumbnails"
EXTRACTION_FOLDERS = (EXTRACTED, FEATURES, THUMBNAILS)
"""All tables of an extraction, whose output is a feature table: its readers skip names with an underscore."""
HEADS, HISTORY, CALIBRATION, LOGITS, WEIGHTS = "_heads", "_history", "_calibration", "_logits", "_weights"
TRAINING_FOLDERS = (HEADS, HISTORY, CALIBRATION, LOGITS, WEIGHTS)
"""All tables of a training, in the folder `TRAINING` of its model bundle."""
TRAINING = "training"
"""Folder of a model bundle with the tables of its training."""
ANALYSIS = "analysis"
"""Tables of an analysis (`esv analyze`), which are no part of the job."""
VARIATIONS_FOLDER = "variations"
"""Outputs of jobs of variations (`esv smoothness`, `esv order`, `esv sanity`)."""
ASIDE = "_aside"
"""Files that a repair moved away; readers of tables skip names that begin with an underscore."""
SUBMISSIONS = "_submissions"
"""Specs of submitted jobs."""


class Named(Protocol):
    """Anything with the file name of a unit."""

    @property
    def name(self) -> str:
        """File name of its tables."""


class PlannedUnit(Named, Protocol):
    """A unit of the plan of any kind of work."""

    @property
    def index(self) -> int:
        """Number in the plan."""

    @property
    def rows(self) -> int:
        """Number of input rows."""

    @property
    def input(self) -> str:
        """Checksum of the input that holds the rows."""

    @property
    def covers(self) -> tuple[int, ...]:
        """The rows, in numbers, wherever the input lies."""


class Plan(Protocol):
    """The plan of any kind of work, as far as its output shows it."""

    @property
    def units(self) -> Sequence[PlannedUnit]:
        """All units; `PlannedUnit.index` is the position."""

    @property
    def folders(self) -> tuple[str, ...]:
        """Folders of the tables; the mark's is the first."""

    @property
    def job(self) -> str:
        """Fingerprint of all that the tables depend on besides the rows."""


def folders_of(tables: Collection[str]) -> tuple[str, ...]:
    """Return the folders of a job that writes some of the further tables; the mark's is the first."""
    return (VIDEOS, ATTRIBUTIONS, *(name for name in FURTHER if name in tables))


def table_url(output: str, folder: str, unit: Named) -> str:
    """Return where a table of a unit is committed."""
    return storage.join(output, folder, unit.name)


def videos_url(output: str, unit: Named) -> str:
    """Return where a unit's videos are committed: the mark that it is done."""
    return table_url(output, VIDEOS, unit)


def check_apart(place: str, outputs: Iterable[str], option: str) -> None:
    """Check that a result is not written over the files of an output.

    Args:
        place: location of the result.
        outputs: absolute locations of outputs.
        option: that names the place, for the error.

    Raises:
        SpecError: the place is one of the files of an output.
    """
    absolute = storage.without_links(storage.absolute(place))
    for output in outputs:
        below = storage.path_below(storage.without_links(output), absolute)
        if (below or "").partition("/")[0] in {*FOLDERS, RUN, SUCCESS, PROGRESS}:
            raise SpecError(f"{option}: {place} would be a file of the output {output} itself; choose another place")
