"""What an actor holds for all units of an attribution."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Event

import numpy as np
import torch

from esv_ray.attribution.plan_cache import cached_plan
from esv_ray.core.attribution import Extras
from esv_ray.core.engine import Engine
from esv_ray.core.games.model import VideoModel
from esv_ray.core.games.randomised import count_layers, randomised
from esv_ray.core.methods.attribution import BY_GRADIENT
from esv_ray.core.methods.score import ScoreFunction
from esv_ray.core.plan import BuildPlan, Plan
from esv_ray.core.recipe import Recipe, closed_form
from esv_ray.errors import JobError, SpecError, count_of
from esv_ray.input.features import Contract
from esv_ray.input.unit_reader import UnitReader
from esv_ray.job.work import Heartbeat
from esv_ray.models.bundle import load_model
from esv_ray.models.class_tables import in_file
from esv_ray.models.gradients import check_gradients
from esv_ray.models.probe import check_repeatable
from esv_ray.output.layout import DISCARDS, INTERACTIONS, MARGINALS, SANITY
from esv_ray.spec import JobSpec


@dataclass(frozen=True, eq=False)
class Workplace:
    """What an actor holds for all of its units.

    Attributes:
        spec: the job.
        job: fingerprint of the job (`Manifest.job`).
        engine: the loaded model on its device.
        reader: reads units as the model takes them, within the job's memory budget.
        stopped: set when the actor is to stop.
        heartbeat: counts batches and module calls.
        randomised: engines of the model with 1, 2, ... layers re-initialized, if the job asks for `sanity`.
        baseline: mean element of the feature table (`Manifest.baseline`).
        score_functions: scores of sequences as other methods need them, by number of elements.
    """

    spec: JobSpec
    job: str
    engine: Engine
    reader: UnitReader
    stopped: Event = field(default_factory=Event)
    heartbeat: Heartbeat = field(default_factory=Heartbeat)
    randomised: tuple[Engine, ...] = ()
    baseline: tuple[float, ...] | None = None
    score_functions: dict[int, ScoreFunction] = field(default_factory=dict)

    @property
    def model(self) -> VideoModel:
        """The loaded model."""
        return self.engine.model

    def stop(self) -> None:
        """Make running units end after the current batch, without a commit."""
        self.stopped.set()


@dataclass(frozen=True)
class OpenWorkplace:
    """Opens a workplace on an actor.

    Attributes:
        spec: the job.
        job: fingerprint of the job (`Manifest.job`).
        digest: hash of the model in the plan.
        baseline: mean element of the feature table (`Manifest.baseline`).
    """

    spec: JobSpec
    job: str
    digest: str
    baseline: tuple[float, ...] | None = None

    def __call__(self, device: str) -> Workplace:
        """Open the workplace on a torch device."""
        return open_workplace(self.spec, self.job, self.digest, device, self.baseline)


def open_workplace(
    spec: JobSpec, job: str, digest: str, device: str, baseline: tuple[float, ...] | None = None
) -> Workplace:
    """Load the model once, and set torch's threads and precision of matrix products in this process.

    Torch has a pool of threads for each thread that calls it: units run on the thread that opened the workplace.

    Args:
        spec: the job.
        job: fingerprint of the job (`Manifest.job`).
        digest: hash of the model in the plan.
        device: torch device.
        baseline: mean element of the feature table, for integrated gradients and replacements.

    Raises:
        JobError: the bundle changed since the job was planned.
        ModelError: the model cannot be loaded here; or on this device in this dtype its modules are not repeatable, or
            have no gradients for a method that needs them.
    """
    torch.set_num_threads(spec.compute.threads)
    torch.set_float32_matmul_precision(spec.compute.matmul)
    model = load_model(spec.model, code=spec.code)
    if model.digest != digest:
        raise JobError(f"{spec.model}: the model changed since the job was planned; put it back or use a new output")
    loaded = model.device, model.dtype
    moved = model.to(device, getattr(torch, spec.compute.dtype))
    if (moved.device, moved.dtype) != loaded:
        with in_file(spec.model):
            check_repeatable(moved)
        check_methods(spec, moved)
    heartbeat = Heartbeat()

    def build(recipe: Recipe) -> Plan:
        with heartbeat.during(f"preparing the estimator for {count_of(recipe.n, 'element')}"):
            return cached_plan(recipe)

    engine = job_engine(spec, moved, build)
    place = Workplace(
        spec,
        job,
        engine,
        unit_reader(spec, moved),
        heartbeat=heartbeat,
        randomised=_randomised(spec, engine),
        baseline=baseline,
    )
    # One batch through a slow module may take longer than a worker may be silent.
    for module in place.model.scorer.modules():
        module.register_forward_hook(lambda *_: place.heartbeat.beat())
    return place


def job_engine(spec: JobSpec, model: VideoModel, build: BuildPlan = cached_plan) -> Engine:
    """Return the engine that a job asks for, with a loaded model.

    Args:
        spec: the job.
        model: on its device, in its dtype.
        build: builds plans.
    """
    batch = None if spec.compute.batch == "auto" else spec.compute.batch
    return Engine(
        model,
        spec.estimator.request(),
        memory_budget=_memory_budget(spec),
        batch=batch,
        threads=spec.compute.threads,
        build=build,
        extras=_extras(spec, model),
    )


def check_methods(spec: JobSpec, model: VideoModel) -> None:
    """Refuse a model that has no gradients, if a method of the job needs them.

    Raises:
        ModelError: as `check_gradients`.
        SpecError: the elements are images.
    """
    if BY_GRADIENT.isdisjoint(spec.methods):
        return
    if model.shape is not None:
        raise SpecError(
            f"methods: integrated_gradients and grad_cam need gradients in the elements, which are images of bytes for "
            f"the model {spec.model}; use esv, occlusion and random"
        )
    with in_file(spec.model):
        check_gradients(model)


def check_fits(spec: JobSpec, engine: Engine, n: int) -> None:
    """Refuse a length that does not fit the memory budget, or whose shorter sequences do not (table `discards`).

    Raises:
        SpecError: as `Budget.check`.
    """
    engine.budget.check(n)
    if DISCARDS not in spec.tables or (engine.extras.values and engine.budget.kind(n) == "exact"):
        return
    shorter = engine.plain().budget
    for k in range(n - 1, 0, -1):
        try:
            shorter.check(k)
        except SpecError as error:
            raise SpecError(
                f"discards of {n} elements evaluate shorter sequences, too, which may take more memory: {error}"
            ) from None


def _randomised(spec: JobSpec, engine: Engine) -> tuple[Engine, ...]:
    """Return an engine for each number of layers that are re-initialized, if the job asks for `sanity`."""
    if SANITY not in spec.tables:
        return ()
    model, seed = engine.model, spec.estimator.seed
    return tuple(engine.plain(randomised(model, layers, seed=seed)) for layers in range(1, count_layers(model) + 1))


def _extras(spec: JobSpec, model: VideoModel) -> Extras:
    """Return what the job's further tables need besides ESVs.

    ESVs in closed form have no values of long subsequences, so discards are evaluated one by one; interactions need
    all values.
    """
    closed = closed_form(spec.estimator.request(), model.scales)
    values = INTERACTIONS in spec.tables or (DISCARDS in spec.tables and not closed)
    return Extras(marginals=MARGINALS in spec.tables, values=values)


def unit_reader(spec: JobSpec, model: VideoModel) -> UnitReader:
    """Return the reader of a job's units, with a loaded model."""
    dtype = np.dtype(spec.compute.dtype if model.shape is None else np.uint8)
    contract = Contract(model.feature_dim, model.n_classes, dtype, spec.unlabelled, model.classes)
    return UnitReader(contract, _memory_budget(spec))


def _memory_budget(spec: JobSpec) -> int:
    budget = spec.compute.memory_budget
    assert budget != "auto", "the plan fixes it"
    return budget
