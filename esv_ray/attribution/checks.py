"""Checks of a job's request: locations, classes and features, before any row is computed."""

from __future__ import annotations

from collections.abc import Sequence

from esv_ray import storage
from esv_ray.attribution.workplace import check_fits, job_engine
from esv_ray.core.games.model import VideoModel
from esv_ray.errors import DataError, JobError, ModelError, SpecError
from esv_ray.input.class_names import class_named
from esv_ray.input.images import check_elements
from esv_ray.input.parquet.footers import Footer, has_labels
from esv_ray.input.reading import check_flat_sizes, check_label_names, feature_dim_of
from esv_ray.job.resources import check_cluster
from esv_ray.output.layout import (
    ANALYSIS,
    ASIDE,
    FOLDERS,
    PROGRESS,
    SUBMISSIONS,
    SUCCESS,
    VARIATIONS_FOLDER,
    folders_of,
)
from esv_ray.spec import JobSpec
from esv_ray.spec_values import CLASS_WORDS, is_class_word

OWN_NAMES = frozenset({*FOLDERS, PROGRESS, SUCCESS, ASIDE, SUBMISSIONS, ANALYSIS, VARIATIONS_FOLDER})
"""Names that an output may hold before it has a run.json: of this job, of its submission, and of a repair."""


def runs_here(spec: JobSpec) -> bool:
    """Return whether a job runs in this process: on request, or if no other process can see one of its locations."""
    return spec.cluster.actors == 0 or bool(_private(spec))


def _private(spec: JobSpec) -> list[str]:
    return [url for url in (spec.features, spec.model, spec.output) if storage.in_this_process(url)]


def check_no_partitions(output: str) -> None:
    """Refuse to put a job's tables among outputs of partitions: no later run over partitions would accept them."""
    if not storage.exists(storage.join(output, PROGRESS)):
        return
    folders, _ = storage.list_folder(output, "look for outputs of partitions")
    # Names of partitions do not begin with _ or a dot; looking into the first one suffices.
    name = next((name for name in folders if not name.startswith(("_", ".")) and name not in OWN_NAMES), None)
    if name is not None and storage.exists(storage.join(output, name, "run.json")):
        raise JobError(
            f"{output} holds the outputs of partitions ({name}, ...); use another output; `esv attribute "
            f"--partitions` continues them, and a single one has the features FEATURES/{name} and the output "
            f"OUTPUT/{name}"
        )


def check_outside(spec: JobSpec) -> None:
    """Refuse an output inside the features, even through links.

    Raises:
        SpecError: tables that are written would be read as features.
    """
    name = f"part-000000-{16 * '0'}.parquet"
    storage.check_outside(spec.features, spec.output, [f"{folder}/{name}" for folder in folders_of(spec.tables)])


def check_places(spec: JobSpec) -> None:
    """Refuse locations that actors cannot read, an output inside the features, and GPUs that do not exist.

    Raises:
        SpecError: there is one.
    """
    check_outside(spec)
    check_cluster(spec.cluster, _private(spec))


def with_class_ids(spec: JobSpec, model: VideoModel) -> JobSpec:
    """Return the job with the ids of the model's classes in the place of their names, each class once.

    Raises:
        SpecError: the model has no such class.
    """
    choices: list[int | str] = []
    for choice in spec.classes:
        if isinstance(choice, str) and not is_class_word(choice):
            choice = _class_id(choice, model.classes)
        elif isinstance(choice, int) and choice >= model.n_classes:
            raise SpecError(
                f"classes: expected ids 0..{model.n_classes - 1}, the model's classes, got {choice}; correct `classes`"
            )
        choices.append(choice)
    return spec.model_copy(update={"classes": tuple(dict.fromkeys(choices))})


def _class_id(name: str, names: Sequence[str] | None) -> int:
    try:
        return class_named(name, names, key="classes", words=(*CLASS_WORDS, "top:K"))
    except SpecError as error:
        several = f" (several classes: a list in brackets, [{name:.80}])" if "," in name else ""
        raise SpecError(f"{error}{several}") from None


def check_features(spec: JobSpec, model: VideoModel, footers: Sequence[Footer]) -> None:
    """Check the footers before any row is computed."""
    budget = spec.compute.memory_budget
    assert budget != "auto", "the plan fixes it"
    check_elements(footers, model.shape, spec.features, spec.model)
    dim = feature_dim_of(footers, budget)
    if dim is not None and dim != model.feature_dim:
        raise ModelError(
            f"{spec.features}: features must be (T, {model.feature_dim}) for the model {spec.model}, got "
            f"(T, {dim}); check `model` and `features`"
        )
    check_flat_sizes(footers, model.feature_dim, budget, spec.features)
    if model.classes is None:
        check_label_names(footers, budget, spec.features, f"add classes.csv (header name,id) to the model {spec.model}")
    if spec.classes == ("label",) and not has_labels(footers):
        raise DataError(
            f"{spec.features}: classes is [label], but the table has no labels; set classes to predicted, top:K, all, "
            "or class ids or names"
        )
    for n in spec.frame_numbers:
        check_fits(spec, job_engine(spec, model), n)
