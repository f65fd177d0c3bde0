"""run.json of a training: its plan. A unit is one head: a scale with a seed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt

from esv_ray.output.layout import TRAINING_FOLDERS
from esv_ray.output.plan_file import PlanFile
from esv_ray.spec import fingerprint


@dataclass(frozen=True)
class HeadUnit:
    """The piece of work that is computed and committed whole: a head.

    Attributes:
        index: number of the unit in the plan.
        scale: s of the head f^s.
        seed: of its initial weights and of the subsequences drawn.
        input: checksum of the videos of the training.
    """

    index: int
    scale: int
    seed: int
    input: str

    @property
    def head(self) -> str:
        """The head in words."""
        return f"f^{self.scale}, seed {self.seed}"

    @property
    def rows(self) -> int:
        """Number of rows: one, the head."""
        return 1

    @property
    def source(self) -> str:
        """The videos, which all heads read."""
        return self.input

    @property
    def group(self) -> int:
        """Number of the group of units that are read together: its own, because nothing is read together."""
        return self.index

    @property
    def covers(self) -> tuple[int, ...]:
        """Range that it covers: index, first row and the row after the last (of the plan's heads)."""
        return self.index, self.index, self.index + 1

    @property
    def name(self) -> str:
        """File name of its tables: its number, and a hash of what it covers."""
        content = repr((self.input, self.scale, self.seed))
        return f"part-{self.index:06d}-{hashlib.sha256(content.encode()).hexdigest()[:16]}.parquet"


class Written(BaseModel):
    """Content of run.json.

    Attributes:
        format: 1.
        work: distinguishes it from the run.json of other kinds of work.
        spec: of the training; informative.
        keys: everything that the heads depend on.
        versions: of the software; informative.
        feature_dim: D.
        n_max: scale of the longest head.
        seeds: of the heads of each scale.
        counts: training videos of each class, (C,).
        classes: C names, or None.
        videos, validation_videos, left_out: numbers of videos used and rows not used.
        notes: one line per omission or warning.
        checksum: of the rest.
    """

    model_config = ConfigDict(strict=True, frozen=True)

    format: Literal[1] = 1
    work: Literal["training"] = "training"
    spec: dict[str, Any]
    keys: dict[str, Any]
    versions: dict[str, str]
    feature_dim: Annotated[StrictInt, Field(ge=1)]
    n_max: Annotated[StrictInt, Field(ge=1)]
    seeds: list[int]
    counts: list[int]
    classes: list[str] | None
    videos: int
    validation_videos: int
    left_out: int
    notes: list[str]
    checksum: str = ""


FILE = PlanFile(Written, "training", "a training", "--output")


@dataclass(frozen=True)
class TrainingPlan:
    """The plan of a training (`output.layout.Plan`).

    Attributes:
        written: run.json.
    """

    written: Written

    @cached_property
    def units(self) -> tuple[HeadUnit, ...]:
        """All heads, the longest first: they take longest."""
        heads = [(scale, seed) for scale in range(self.written.n_max, 0, -1) for seed in self.written.seeds]
        data = str(self.written.keys["data"])
        return tuple(HeadUnit(index, scale, seed, data) for index, (scale, seed) in enumerate(heads))

    @property
    def folders(self) -> tuple[str, ...]:
        """Folders of its tables; the mark's is the first."""
        return TRAINING_FOLDERS

    @cached_property
    def job(self) -> str:
        """Fingerprint of all that the heads depend on."""
        return fingerprint(self.written.keys)
