"""Names of classes in `classes`: a job turns them into ids once, and gives the tables and the plan of the ids."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from esv_ray.attribution.checks import with_class_ids
from esv_ray.attribution.partitions import plan_partitions
from esv_ray.attribution.planning import check_job
from esv_ray.core.games.model import VideoModel
from esv_ray.errors import SpecError
from esv_ray.forecast.forecast import forecast
from esv_ray.models.bundle import load_model
from esv_ray.models.saving import save_heads
from esv_ray.spec import load_spec
from tests.conftest import make_heads, make_prior
from tests.support.jobs import all_of, run

NAMES = ("Open a door", "close, twice ", "predicted")
PLACES = {"features": "/data/f", "model": "/data/m", "output": "/data/o"}


def named(folder: Path, names: tuple[str, ...] | None) -> VideoModel:
    save_heads(str(folder), make_heads(), make_prior(3), classes=names)
    return load_model(str(folder))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> VideoModel:
    return named(tmp_path_factory.mktemp("named"), NAMES)


def chosen(model: VideoModel, *classes: int | str) -> tuple[int | str, ...]:
    return with_class_ids(load_spec({**PLACES, "classes": list(classes)}), model).classes


def test_a_name_is_its_id_and_ids_and_words_are_kept(model: VideoModel) -> None:
    assert chosen(model, "Open a door", "label") == (0, "label")
    assert chosen(model, "close, twice", 1, "1", "top:2", "all") == (1, "top:2", "all")
    assert chosen(model, "predicted", 2) == ("predicted", 2), "the word comes first; the id gives the class"


def test_a_name_that_is_a_number_is_an_id(tmp_path: Path) -> None:
    assert chosen(named(tmp_path, ("2", "0", "1")), "2", 0) == (2, 0)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("open the door", "classes: there is no class 'open the door'; did you mean 'Open a door'?"),
        ("labels", "classes: there is no class 'labels'; did you mean 'label'?"),
        (
            "xyzxyz",
            "classes: there is no class 'xyzxyz'; the 3 classes are 'Open a door', 'close, twice ', 'predicted'",
        ),
        ("label,Open", "(several classes: a list in brackets, [label,Open])"),
        (3, "classes: expected ids 0..2, the model's classes, got 3"),
    ],
)
def test_a_class_that_is_not_there(model: VideoModel, given: int | str, says: str) -> None:
    with pytest.raises(SpecError) as caught:
        chosen(model, "label", given)
    assert says in str(caught.value)


def test_names_without_a_meaning_of_their_own(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"classes: 2 classes have the name 'crane': \[0, 2\]; give the id"):
        chosen(named(tmp_path / "shared", ("crane", "dog", "crane")), "crane")
    says = (
        "classes: expected label, predicted, all, top:K, or a class id, since the model has no class names, got 'dog'"
    )
    with pytest.raises(SpecError, match=says):
        chosen(named(tmp_path / "nameless", None), "dog")


def test_a_job_with_names_is_the_job_with_ids(features: str, bundle: str, tmp_path: Path) -> None:
    by_name, by_id = tmp_path / "name", tmp_path / "id"
    run(features, bundle, by_name, "classes=[two, label, one]", "frames=3")
    run(features, bundle, by_id, "classes=[1, label, 0]", "frames=3")
    assert all_of(by_name) == all_of(by_id)
    plans = [json.loads((folder / "run.json").read_text()) for folder in (by_name, by_id)]
    assert plans[0]["fingerprint"] == plans[1]["fingerprint"]
    assert plans[0]["spec"]["classes"] == [1, "label", 0]
    assert not run(features, bundle, by_id, "classes=[two, label, one]", "frames=3").exit_code, "it is resumed"


def test_names_are_ids_wherever_a_job_is_checked(features: str, bundle: str, tmp_path: Path) -> None:
    spec = load_spec({"features": features, "model": bundle, "output": str(tmp_path / "o"), "classes": ["two", 1]})
    assert check_job(spec).spec.classes == (1,)
    estimate = forecast(load_spec({**spec.model_dump(), "cluster": {"actors": 0}, "frames": 2}))
    assert estimate.spec.classes == (1,)
    (tmp_path / "parts" / "a").mkdir(parents=True)
    of_parts = {"features": str(tmp_path / "parts"), "model": bundle, "output": str(tmp_path / "p")}
    assert [each.spec.classes for each in plan_partitions(load_spec({**of_parts, "classes": "two"}))] == [(1,)]
    with pytest.raises(SpecError, match="did you mean 'two'"):
        plan_partitions(load_spec({**of_parts, "classes": "tow"}))
