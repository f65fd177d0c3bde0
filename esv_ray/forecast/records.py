"""The parts of a forecast."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from esv_ray.forecast.io import OutputSize, RowGroup, unread
from esv_ray.forecast.lengths import Lengths, RepeatedIds
from esv_ray.forecast.throughput import Timings
from esv_ray.forecast.work import LengthWork
from esv_ray.input.units import Unit
from esv_ray.spec import JobSpec


@dataclass(frozen=True)
class Actors:
    """The actors of a job.

    Attributes:
        requested: by the spec, or as many as this machine holds.
        working: of them, those that have a unit to do.
        concurrent: of the working ones, how many this machine's cores or GPUs run at a time; all of them on a cluster.
        device: `cpu` or `cuda`.
        threads: of each actor.
        starts_ray: whether a Ray runtime has to be started.
    """

    requested: int
    working: int
    concurrent: int
    device: str
    threads: int
    starts_ray: bool


@dataclass(frozen=True)
class LengthEstimate:
    """The work at one length, and how long a video of that length takes.

    Attributes:
        work: evaluations and memory.
        video_s: seconds per video, if the first stage meets the tolerance.
        video_most_s: seconds per video, if no stage meets the tolerance.
        basis: the measurement that the seconds come from; empty if nothing is left to do at this length.
    """

    work: LengthWork
    video_s: float
    video_most_s: float
    basis: str


@dataclass(frozen=True)
class TimeEstimate:
    """Expected seconds for the units that are left.

    Attributes:
        seconds: until the job has ended.
        seconds_most: the same, if no video meets its tolerance.
        compute_s, read_s, write_s: of one actor that does everything; reading and writing overlap with compute.
        plans_s: to build plans, once per machine.
        start_s: to start the runtime.
    """

    seconds: float
    seconds_most: float
    compute_s: float
    read_s: float
    write_s: float
    plans_s: float
    start_s: float


@dataclass(frozen=True)
class Passes:
    """Forward passes of the network for a video of n images; one pass evaluates one subsequence.

    Attributes:
        n: number of elements.
        kind: estimator of the job.
        passes: that it takes.
        exact: that exact ESVs take, 2^n - 1.
        adjusted: that the adjusted estimator takes, by m, where these are fewer than those of the job.
    """

    n: int
    kind: str
    passes: int
    exact: int
    adjusted: Mapping[int, int]


@dataclass(frozen=True, eq=False)
class Forecast:
    """The estimated work, memory, bytes and time of a job.

    Attributes:
        spec: the job, with its memory budget.
        resumed: whether the output holds a plan of this job already.
        row_groups: of the feature table.
        files: number of files of the feature table.
        units, pending: all units, and those not yet committed.
        lengths: frames of the videos.
        feature_dim: D.
        labelled: whether there are labels.
        skipped: videos that are skipped at some length.
        by_length: the work, by ascending length.
        output_size: bytes and rows to write for the units that are left.
        reading_bytes: memory for reading, per actor.
        actors: actors of the job.
        time: estimated duration.
        create_only: whether the store of the output has create-only writes; None if nothing is left to write.
        repeated_ids: None if they were not checked.
        timings: measurements that the time is based on.
        scaled: whether the timings are of a model of other sizes.
        passes: forward passes for a video, of a model that runs a network of images for each subsequence; else None.
    """

    spec: JobSpec
    resumed: bool
    row_groups: tuple[RowGroup, ...]
    files: int
    units: tuple[Unit, ...]
    pending: tuple[Unit, ...]
    lengths: Lengths
    feature_dim: int
    labelled: bool
    skipped: int
    by_length: tuple[LengthEstimate, ...]
    output_size: OutputSize
    reading_bytes: int
    actors: Actors
    time: TimeEstimate
    create_only: bool | None
    repeated_ids: RepeatedIds | None
    timings: Timings
    scaled: bool
    passes: Passes | None = None

    @property
    def budget(self) -> int:
        """Memory budget of an actor, in bytes."""
        budget = self.spec.compute.memory_budget
        assert budget != "auto", "planning fixes it"
        return budget

    @property
    def videos(self) -> int:
        """Number of videos of the feature table."""
        return sum(unit.rows for unit in self.units)

    @property
    def videos_left(self) -> int:
        """Number of videos not yet committed."""
        return sum(unit.rows for unit in self.pending)

    @property
    def table_bytes(self) -> int:
        """Bytes of the feature table on storage."""
        return sum(group.compressed for group in self.row_groups)

    @property
    def read_bytes(self) -> int:
        """Bytes to read for the units that are left."""
        return sum(group.compressed for group in unread(self.row_groups, self.pending))

    @property
    def batch_bytes(self) -> int:
        """Memory of the largest batch, including its plan."""
        return max((length.work.memory for length in self.by_length), default=0)

    @property
    def actor_bytes(self) -> int:
        """Memory of an actor, at most."""
        return self.batch_bytes + self.reading_bytes

    @property
    def evaluations_counted(self) -> bool:
        """Whether the number of evaluations is known exactly; else it is the expected number."""
        return all(stage.counted for length in self.by_length for stage in length.work.stages)

    def evaluations(self, *, most: bool = False, pending: bool = False) -> int:
        """Return the number of head evaluations.

        Args:
            most: if no video meets its tolerance.
            pending: of the videos not yet committed; else of all videos.
        """
        return sum(
            (length.work.pending if pending else length.work.videos)
            * (length.work.evaluations_most if most else length.work.evaluations)
            for length in self.by_length
        )
