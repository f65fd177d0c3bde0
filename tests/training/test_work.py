"""A training as a job: units, kills, resumption, actors, failed heads, and what is written at its end."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from esv_ray.errors import DataError, JobError, ModelError, SpecError
from esv_ray.job.progress import Progress
from esv_ray.models.bundle import load_model
from esv_ray.spec_train import load_train_spec
from esv_ray.training import unit
from esv_ray.training.fitting import fit_head
from esv_ray.training.work import train
from tests.support.killed import Killed, Mortal
from tests.support.s3_server import S3Server, client
from tests.support.training import LENGTHS, Study, separable

SMALL = {"n_max": 2, "hidden": 4, "epochs": 2, "dropout": 0.2}


def everything(output: str) -> dict[str, bytes]:
    """All files of a bundle but those of the run."""
    files = {str(path.relative_to(output)): path.read_bytes() for path in Path(output).rglob("*") if path.is_file()}
    return {name: data for name, data in files.items() if name not in ("progress.json", "training/run.json")}


@pytest.mark.parametrize(("n_max", "every"), [(1, 7), pytest.param(2, 1, marks=pytest.mark.slow)])
def test_killed_at_any_write_a_training_resumes_to_the_same_bits(study: Study, n_max: int, every: int) -> None:
    keys = study.keys(separable(LENGTHS), **{**SMALL, "n_max": n_max})
    with pytest.MonkeyPatch.context() as patch:
        writes = Mortal(patch).writes
        train(load_train_spec(keys))
    clean = everything(keys["output"])
    assert {"model.json", "prior.csv", "training/_SUCCESS", "training/accuracy.parquet"} <= clean.keys()
    assert len(writes) >= n_max * 5 + 3 + 3 + n_max
    for place in range(1, len(writes) + 1, every):
        shutil.rmtree(keys["output"])
        with pytest.MonkeyPatch.context() as patch:
            Mortal(patch, place, done=place % 8 < 4)
            with pytest.raises(Killed):
                train(load_train_spec(keys))
        assert train(load_train_spec(keys)).job.exit_code == 0
        assert everything(keys["output"]) == clean, (place, writes[place - 1])


def test_a_finished_training_is_not_repeated(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = study.keys(separable(LENGTHS), **SMALL)
    first = train(load_train_spec(keys))
    before = everything(keys["output"])
    monkeypatch.setattr(unit, "fit_head", None)  # nothing may call it
    again = train(load_train_spec({**keys, "cluster": {"actors": 0, "stall_timeout": 5}}))
    assert (again.job.resumed_units, again.accuracy, again.notes) == (2, first.accuracy, first.notes)
    assert everything(keys["output"]) == before
    (Path(keys["output"]) / "model.json").unlink()  # the model is made of the committed heads again
    train(load_train_spec(keys))
    assert everything(keys["output"]) == before


def test_another_training_in_one_output_is_refused(study: Study, bundle: str) -> None:
    keys = study.keys(separable(LENGTHS), **SMALL)
    train(load_train_spec(keys))
    with pytest.raises(JobError, match=r"another training; dropout: expected 0\.2, got 0\.3\. Use another --output"):
        train(load_train_spec({**keys, "dropout": 0.3}))
    with pytest.raises(JobError, match="holds another training; data: expected "):
        train(load_train_spec({**keys, "features": study.write(separable(LENGTHS, seed=5))}))
    moved = study.write(separable(LENGTHS))
    assert train(load_train_spec({**keys, "features": moved})).job.resumed_units == 2, "the same table elsewhere"
    shutil.copy(Path(bundle) / "model.json", Path(keys["output"]) / "model.json")
    with pytest.raises(JobError, match="expected the model of this training or none, found another one"):
        train(load_train_spec(keys))
    (Path(keys["output"]) / "training" / "run.json").unlink()
    with pytest.raises(ModelError, match="there is a model bundle already"):
        train(load_train_spec(keys))


def test_heads_of_other_trainings_are_not_adopted(study: Study) -> None:
    keys = study.keys(separable(LENGTHS), **SMALL)
    train(load_train_spec(keys))
    output = Path(keys["output"])
    for path in (output / "model.json", output / "training" / "run.json"):
        path.unlink()
    with pytest.raises(JobError, match=r"without a run\.json that does not belong to this training"):
        train(load_train_spec({**keys, "seed": 1}))
    assert train(load_train_spec(keys)).job.resumed_units == 2


def test_a_table_that_changes_during_a_training_stops_it(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = study.keys(separable(LENGTHS), **SMALL, shuffle_buffer=300)

    def changing(task: Any) -> Any:
        pq.write_table(separable([3] * 60, seed=3), keys["features"])
        return fit_head(task)

    monkeypatch.setattr(unit, "fit_head", changing)
    result = train(load_train_spec(keys))
    assert (result.job.exit_code, result.trained) == (1, None)
    assert all("changed since" in reason for reason in result.job.quarantined.values())


def test_a_head_that_cannot_be_trained_fails_alone_until_it_is_retried(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = study.keys(separable(LENGTHS), **SMALL)

    def failing(task: Any) -> Any:
        if task.scale == 2:
            raise RuntimeError("out of memory")
        return fit_head(task)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unit, "fit_head", failing)
        result = train(load_train_spec(keys))
        assert (result.job.counts.ok, result.job.counts.failed, result.job.exit_code) == (1, 1, 1)
        ((head, reason),) = result.job.failed
        assert head == "f^2, seed 0"
        assert reason.startswith("RuntimeError: out of memory")
        assert train(load_train_spec(keys)).job.counts.failed == 1, "a failed head is not trained again unasked"
    assert train(load_train_spec(keys), retry_failed=True).job.exit_code == 0
    clean = {**keys, "output": f"{keys['output']}-clean"}
    train(load_train_spec(clean))
    weights = [{name: data for name, data in everything(each["output"]).items() if name.startswith("head-")}
               for each in (keys, clean)]  # fmt: skip
    assert weights[0] == weights[1]


def test_of_several_seeds_the_best_head_of_each_scale_is_kept(study: Study) -> None:
    table = separable(LENGTHS, noise=3)
    keys = study.keys(table, n_max=2, epochs=6, seeds=3, seed=5)
    result = train(load_train_spec(keys))
    assert result.trained is not None
    rows = result.trained.accuracy.to_pylist()
    heads = [row for row in rows if row["scale"] is not None]
    assert [(row["scale"], row["seed"]) for row in heads] == [(s, seed) for s in (1, 2) for seed in (5, 6, 7)]
    for s in (1, 2):
        of_scale = [row for row in heads if row["scale"] == s]
        assert [row["kept"] for row in of_scale].count(True) == 1
        assert min(of_scale, key=lambda row: row["validation_loss"])["kept"]
        assert len({row["validation_loss"] for row in of_scale}) == 3
    of_f = [row for row in rows if row["scale"] is None]
    assert [(row["seed"], row["kept"]) for row in of_f] == [(5, False), (6, False), (7, False), (None, True)]
    alone = study.train(table, n_max=2, epochs=6, seed=5)
    first = {row["scale"]: row["accuracy"] for row in heads if row["seed"] == 5}
    assert alone.accuracy == first, "one seed more changes no head"
    assert alone.accuracy_f == of_f[0]["accuracy"]


def test_tables_beside_the_bundle(study: Study) -> None:
    result = study.train(separable([5] * 80, noise=2), n_max=3, epochs=5, validation=0.5)
    folder = Path(result.output) / "training"
    accuracy, history, calibration = (
        pq.read_table(folder / f"{name}.parquet") for name in ("accuracy", "history", "calibration")
    )
    assert accuracy.num_rows == 3 + 1
    assert history.num_rows == 3 * 5
    assert calibration.num_rows == (3 + 1) * 15
    model = load_model(result.output)
    for row in accuracy.to_pylist():
        bins = [each for each in calibration.to_pylist() if each["scale"] == row["scale"]]
        total = sum(each["count"] for each in bins)
        assert total == (row["videos"] if row["scale"] is None else 8 * row["videos"])
        right = sum(each["count"] * (each["accuracy"] or 0) for each in bins)
        assert right / total == pytest.approx(row["accuracy"])
        gaps = sum(each["count"] * abs((each["accuracy"] or 0) - (each["confidence"] or 0)) for each in bins)
        assert gaps / total == pytest.approx(row["ece"])
    assert model.n_max == 3


def test_accuracy_of_f_is_that_of_the_model(study: Study) -> None:
    """Videos as long as the longest head have few subsequences, all of which are drawn: F is almost exact."""
    from esv_ray.models.explain import explain

    held = study.write(separable([3] * 40, noise=2.5, seed=2))
    result = study.train(separable(LENGTHS, noise=2.5), n_max=3, validation=held)
    model = load_model(result.output)
    right = sum(
        int(explain(model, np.array(row["features"], np.float32)).scores.argmax()) == row["label"]
        for row in pq.read_table(held).to_pylist()
    )
    assert result.accuracy_f == pytest.approx(right / 40, abs=0.051)


@pytest.mark.slow
@pytest.mark.xdist_group("jobs")
def test_two_actors_train_the_bits_of_this_process(study: Study) -> None:
    keys = study.keys(separable(LENGTHS), **{**SMALL, "n_max": 3}, seeds=2, shuffle_buffer=500)
    train(load_train_spec(keys))
    states: list[Progress] = []
    result = train(load_train_spec({**keys, "output": f"{keys['output']}-2", "cluster": {"actors": 2}}), states.append)
    assert (result.job.counts.ok, result.job.units) == (6, 6)
    assert everything(keys["output"]) == everything(f"{keys['output']}-2")
    assert states[-1].noun == "head"


@pytest.mark.slow
def test_on_s3(s3: S3Server, study: Study) -> None:
    fs, root = client(s3), f"{s3.bucket}/training"
    table = study.write(separable(LENGTHS))
    fs.pipe(f"{root}/f.parquet", Path(table).read_bytes())
    keys = study.keys(separable(LENGTHS), **SMALL)
    result = train(load_train_spec({**keys, "features": f"s3://{root}/f.parquet", "output": f"s3://{root}/model"}))
    train(load_train_spec(keys))
    assert result.accuracy_f > 0
    for name in ("head-01.safetensors", "head-02.safetensors", "prior.csv", "training/accuracy.parquet"):
        assert fs.cat(f"{root}/model/{name}") == everything(keys["output"])[name]


def test_tables_in_the_memory_of_this_process_are_for_no_actor(study: Study) -> None:
    keys = study.keys(separable(LENGTHS), output="memory://model", cluster={"actors": 2})
    with pytest.raises(SpecError, match="exists only in the memory of this process"):
        train(load_train_spec(keys))


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ([1, 1], "class_weights: expected 3 numbers, one per class, got 2"),
        ([0, 0, 1], "the weight of every validation video is 0"),
    ],
)
def test_weights_that_do_not_fit_the_classes(study: Study, weights: list[float], words: str) -> None:
    held = study.write(separable([4] * 6, [0, 1] * 3, seed=1))
    assert words in study.refusal(separable(LENGTHS), kind=DataError, class_weights=weights, validation=held)


def test_the_preset_is_the_architecture_of_the_paper() -> None:
    spec = load_train_spec({"features": "f", "output": "o", "preset": "play-fair", "epochs": 3})
    assert (spec.n_max, spec.hidden_dims, spec.dropout, spec.epochs) == (8, (256,), 0.1, 3)
    assert (spec.batch_norm, spec.input_relu) == (False, False)
    with pytest.raises(SpecError, match="n_max: expected 8, as in the preset play-fair, got 4; leave the key or"):
        load_train_spec({"features": "f", "output": "o", "preset": "play-fair", "n_max": 4})


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"schedule": "linear"}, "schedule: expected 'constant', 'cosine' or 'step', got 'linear'"),
        ({"preset": "mine"}, "preset: expected 'play-fair', got 'mine'"),
        ({"precision": "float16"}, "precision: expected 'auto', 'float32' or 'bfloat16', got 'float16'"),
        ({"warmup": 200}, "warmup: expected at most epochs = 100, got 200"),
        ({"class_weights": [1, -1]}, "class_weights: expected weights >= 0, some of them above 0, got"),
        ({"class_weights": "even"}, "class_weights: expected balanced, or a list of one number per class, got 'even'"),
        (
            {"hidden": [8, 4], "hidden_layers": 3},
            "hidden_layers: a list of widths ([8, 4]) determines the number of layers",
        ),
        ({"hidden": [0]}, "hidden: expected "),
        ({"shuffle_buffer": "auto"}, "shuffle_buffer: expected a number of bytes, such as 500MB or 2GB, got 'auto'"),
        ({"seeds": 0}, "seeds: expected greater than or equal to 1, got 0"),
        ({"cluster": {"actor": 2}}, "unknown key 'cluster.actor'; did you mean"),
    ],
)
def test_keys_that_are_wrong_are_named(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_train_spec({"features": "f", "output": "o", **keys})
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_where_a_training_runs() -> None:
    def cluster(**keys: Any) -> Any:
        return load_train_spec({"features": "f", "output": "o", "cluster": keys}).cluster.actors

    assert (cluster(), cluster(actors="auto"), cluster(actors=3)) == (0, "auto", 3)
    assert (cluster(address="auto"), cluster(address="auto", actors=0)) == ("auto", 0)
    submitted = [load_train_spec({"features": "f", "output": "o", "cluster": keys}).cluster.on("auto")
                 for keys in ({}, {"stall_timeout": 9}, {"actors": 0}, {"actors": 3})]  # fmt: skip
    assert [(each.address, each.actors) for each in submitted] == [
        ("auto", actors) for actors in ("auto", "auto", 0, 3)
    ]


def test_weights_of_torch_are_reproducible_whatever_is_drawn_meanwhile(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = study.keys(separable(LENGTHS), **SMALL)
    train(load_train_spec(keys))

    def disturbed(task: Any) -> Any:
        check = task.check

        def drawing() -> None:
            torch.rand(3)
            check()

        return fit_head(type(task)(**{**vars(task), "check": drawing}))

    monkeypatch.setattr(unit, "fit_head", disturbed)
    train(load_train_spec({**keys, "output": f"{keys['output']}-2"}))
    assert everything(keys["output"]) == everything(f"{keys['output']}-2")
