"""Where the files of an output lie (`docs/reference/output.md`)."""

from __future__ import annotations

from typing import Protocol

from esv_ray import storage

RUN = "run.json"
SUCCESS = "_SUCCESS"
PROGRESS = "progress.json"
ATTRIBUTIONS_FOLDER, VIDEOS_FOLDER = "attributions", "videos"
FOLDERS = (VIDEOS_FOLDER, ATTRIBUTIONS_FOLDER)
ASIDE = "_aside"
"""What a repair moved away; readers of tables skip names that begin with an underscore."""
SUBMISSIONS = "_submissions"
"""Specs of submitted jobs."""


class Named(Protocol):
    """A unit, of which the layout needs the file name alone."""

    @property
    def name(self) -> str:
        """File name of its tables."""


def attributions_url(output: str, unit: Named) -> str:
    """Return where a unit's attributions are committed."""
    return storage.join(output, ATTRIBUTIONS_FOLDER, unit.name)


def videos_url(output: str, unit: Named) -> str:
    """Return where a unit's videos are committed: the mark that it is done."""
    return storage.join(output, VIDEOS_FOLDER, unit.name)
