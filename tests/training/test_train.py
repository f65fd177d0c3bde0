"""Training: on videos that are easy to tell apart, and on what cannot be trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from esv_ray import storage
from esv_ray.errors import DataError, EsvError, ModelError, SpecError
from esv_ray.models.bundle import load_model
from esv_ray.models.explain import explain
from esv_ray.spec_train import load_train_spec
from esv_ray.training.work import train
from tests.conftest import make_table
from tests.input.test_flat_features import flattened
from tests.support.training import LENGTHS, Study, files, heads, history, separable

# --- what is trained


def test_classes_that_are_easy_to_tell_apart_are_learnt(study: Study) -> None:
    result = study.train(separable(LENGTHS))
    assert result.accuracy_f > 0.95
    assert result.accuracy.keys() == result.epochs.keys() == {1, 2, 3}
    assert all(accuracy is not None and accuracy > 0.95 for accuracy in result.accuracy.values())
    assert (result.videos, result.validation_videos, result.left_out) == (54, 6, 0)
    epochs = history(result)
    assert [(row["scale"], row["epoch"]) for row in epochs] == [(s, e) for s in (1, 2, 3) for e in range(1, 13)]
    assert epochs[11]["validation_loss"] < epochs[0]["validation_loss"]
    assert epochs[11]["training_loss"] < epochs[0]["training_loss"]

    model = load_model(result.output)
    assert (model.n_max, model.n_classes, model.feature_dim, model.classes) == (3, 3, 4, None)
    right = 0
    for row in separable([5] * 12, seed=1).to_pylist():
        explanation = explain(model, np.array(row["features"], np.float32))
        assert torch.allclose(explanation.esv.sum(dim=0), explanation.scores - explanation.prior, rtol=0, atol=1e-5)
        right += int(explanation.scores.argmax()) == row["label"]
    assert right == 12


@pytest.mark.slow
@pytest.mark.parametrize(
    "shape",
    [
        {"hidden_layers": 0},
        {"hidden_layers": 2, "input_relu": True},
        {"batch_norm": True},
        {"batch_norm": True, "hidden_layers": 2, "dropout": 0},
        {"batch_norm": True, "batch": 53},
    ],
)
def test_every_kind_of_head_is_trained(study: Study, shape: dict[str, Any]) -> None:
    result = study.train(separable(LENGTHS), epochs=25, **shape)
    assert result.accuracy_f == 1
    assert all(epoch > 1 for epoch in result.epochs.values())
    assert load_model(result.output).n_max == 3


def test_the_head_that_is_kept_is_the_best_one(study: Study) -> None:
    """Its accuracy and epoch are those of the least validation loss."""
    result = study.train(separable(LENGTHS, noise=3), epochs=40)
    for s, best in result.epochs.items():
        epochs = [row for row in history(result) if row["scale"] == s]
        losses = [row["validation_loss"] for row in epochs]
        assert losses.index(min(losses)) + 1 == best < 40
        assert result.accuracy[s] == epochs[best - 1]["accuracy"]


def test_training_stops_when_it_gets_no_better(study: Study) -> None:
    result = study.train(separable(LENGTHS, noise=5), epochs=200, patience=3)
    for s, best in result.epochs.items():
        last = max(row["epoch"] for row in history(result) if row["scale"] == s)
        assert last == best + 3 < 200


def test_the_prior_is_the_frequency_of_the_training_labels(study: Study) -> None:
    labels = [0] * 30 + [1] * 12 + [2] * 18
    table = separable([4] * 60, labels)
    result = study.train(table, validation=study.write(separable([4] * 9, seed=1)), epochs=1)
    assert load_model(result.output).prior.tolist() == [30 / 60, 12 / 60, 18 / 60]
    held_out = study.train(table, validation=0.5, epochs=1)  # half of every class
    assert (held_out.videos, held_out.validation_videos) == (30, 30)
    assert load_model(held_out.output).prior.tolist() == [15 / 30, 6 / 30, 9 / 30]


def test_validation_by_a_table_or_a_share(study: Study) -> None:
    table = study.train(separable(LENGTHS), validation=study.write(separable([4] * 12, seed=1)), epochs=1)
    assert (table.videos, table.validation_videos) == (60, 12)
    share = study.train(separable(LENGTHS), validation=0.2, epochs=1)
    assert (share.videos, share.validation_videos) == (48, 12)
    tiny = study.train(separable(LENGTHS), validation=0.001, epochs=1)  # one video at least
    assert (tiny.videos, tiny.validation_videos) == (59, 1)


def test_class_names_and_classes_without_videos(study: Study, tmp_path: Path) -> None:
    names = tmp_path / "classes.csv"
    names.write_text('name,id\n"b, second",1\na,0\nc,2\nd,3\n')
    named = load_model(study.train(separable(LENGTHS), classes=str(names), epochs=1).output)
    assert named.classes == ("a", "b, second", "c", "d")
    assert named.n_classes == 4
    assert float(named.prior[3]) == 0
    model = load_model(study.train(separable(LENGTHS), n_classes=5, epochs=1).output)
    assert (model.n_classes, model.classes) == (5, None)
    assert model.prior.tolist()[3:] == [0, 0]


def test_broken_and_unlabelled_rows_are_left_out_and_counted(study: Study) -> None:
    rows = separable(LENGTHS).to_pylist()
    rows[0]["features"][1][2] = float("nan")
    rows[20]["features"][1] = [1.0]
    rows[2]["features"] = []
    rows[3]["video_id"] = rows[4]["video_id"]
    rows[5]["video_id"] = ""
    rows[6]["label"] = None
    rows[7]["label"] = -1
    table = pa.Table.from_pylist(rows, schema=separable(LENGTHS).schema)
    result = study.train(table, epochs=1)
    assert result.left_out == 7
    assert result.videos + result.validation_videos == 53
    both = study.train(separable(LENGTHS), validation=study.write(table), epochs=1)
    assert (both.videos, both.validation_videos, both.left_out) == (60, 53, 7)


def test_why_rows_are_left_out_is_said(study: Study) -> None:
    rows = separable(LENGTHS).to_pylist()
    for row in rows[:3]:
        row["label"] = -1
    for row in rows[3:5]:
        row["label"] = None
    rows[5]["video_id"] = rows[6]["video_id"]
    rows[7]["features"] = []
    rows[8]["label"] = -2
    schema = separable(LENGTHS).schema
    result = study.train(pa.Table.from_pylist(rows, schema=schema), epochs=1)
    assert result.left_out == 8
    (note,) = [note for note in result.notes if "left out" in note]
    assert note.startswith(str(study.folder))
    beyond = (
        "out of range: class ids are 0 and up; if it marks videos without a label, add it to `unlabelled` in the spec"
    )
    assert note.endswith(
        f": 8 rows left out (4: label -1 is {beyond} [and 1 similar]; 2: no label; 1: no frames; 1 for other reasons)"
    )
    marked = study.train(pa.Table.from_pylist(rows, schema=schema), epochs=1, unlabelled=[-1, -2])
    (note,) = [note for note in marked.notes if "left out" in note]
    assert "(6: no label; 1: " in note


def test_reasons_that_differ_by_a_number_are_counted_together(study: Study) -> None:
    rows = separable(LENGTHS).to_pylist()
    for number, row in enumerate(rows[-20:]):
        row["features"] = [[1.0] * (5 + number % 7)] * 2
    result = study.train(pa.Table.from_pylist(rows, schema=separable(LENGTHS).schema), epochs=1)
    (note,) = [note for note in result.notes if "left out" in note]
    assert note.endswith(": 20 rows left out (20: features must be (T, 4), got (2, 10) [and 6 similar])")


def test_labels_that_mark_unlabelled_videos_are_named_where_none_is_left(study: Study) -> None:
    table = separable(LENGTHS)
    table = table.set_column(table.column_names.index("label"), "label", pa.array([-1] * table.num_rows))
    with pytest.raises(DataError, match=r"found none in 60 rows \(60: label -1 is out of range: .*`unlabelled`"):
        study.train(table)
    with pytest.raises(DataError, match=r"found none in 60 rows \(60: no label\)"):
        study.train(table, unlabelled=[-1])


def test_an_id_in_two_files_is_one_video(study: Study, tmp_path: Path) -> None:
    """As within a file: the first of them is taken, and the others are counted."""
    table = separable(LENGTHS)
    (tmp_path / "both").mkdir()
    pq.write_table(table.slice(0, 40), tmp_path / "both" / "a.parquet")
    pq.write_table(table.slice(30), tmp_path / "both" / "b.parquet")
    result = study.train(table, features=str(tmp_path / "both"), epochs=1)
    assert (result.videos + result.validation_videos, result.left_out) == (60, 10)
    assert "10: video_id is repeated: an earlier file has it" in result.notes[0]


# --- what fixes the result, and what is left alone


def test_the_seed_fixes_every_bit(study: Study) -> None:
    table = separable(LENGTHS)
    first = study.train(table, epochs=3, dropout=0.3)
    torch.manual_seed(1234)
    torch.rand(7)
    again = study.train(table, epochs=3, dropout=0.3)
    assert heads(again.output) == heads(first.output)
    assert len(heads(first.output)) == 3
    assert files(again.output)["prior.csv"] == files(first.output)["prior.csv"]
    assert load_model(again.output).digest == load_model(first.output).digest
    assert (again.accuracy, again.accuracy_f, again.epochs) == (first.accuracy, first.accuracy_f, first.epochs)
    other = study.train(table, epochs=3, dropout=0.3, seed=1)
    assert not set(heads(other.output)) & set(heads(first.output))


def test_a_head_does_not_depend_on_the_longest(study: Study) -> None:
    table = separable(LENGTHS)
    three, two = study.train(table, epochs=2), study.train(table, epochs=2, n_max=2)
    assert heads(two.output) == heads(three.output)[:2]


def test_random_numbers_and_threads_are_given_back(study: Study) -> None:
    torch.manual_seed(77)
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    study.train(separable(LENGTHS), epochs=2, threads=threads + 1)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.get_num_threads() == threads


# --- what is refused


def test_a_bundle_is_not_trained_over(study: Study, bundle: str) -> None:
    before = files(bundle)
    keys = {"features": str(study.folder / "none.parquet"), "output": bundle}  # said before anything is read
    with pytest.raises(ModelError) as caught:
        train(load_train_spec(keys))
    assert str(caught.value).startswith(f"{bundle}: there is a model bundle already")
    assert files(bundle) == before


def test_heads_longer_than_every_video_are_refused(study: Study) -> None:
    text = study.refusal(separable(LENGTHS), n_max=7)
    assert all(part in text for part in ("n_max = 7", "the longest has 6", "at most 6"))
    assert study.train(separable(LENGTHS), n_max=6, epochs=1).accuracy.keys() == set(range(1, 7))


@pytest.mark.parametrize(
    "table",
    [make_table(LENGTHS, n_classes=None), separable(LENGTHS, [None] * 60)],
    ids=["no column", "nulls"],
)
def test_videos_without_labels_are_refused(study: Study, table: pa.Table) -> None:
    text = study.refusal(table)
    assert "expected videos with labels" in text
    assert "60 rows" in text
    assert "table-" in text
    assert "expected videos with labels" in study.refusal(separable(LENGTHS), validation=study.write(table))


def test_labels_beyond_the_classes_are_refused(study: Study, tmp_path: Path) -> None:
    text = study.refusal(separable(LENGTHS), n_classes=2)
    assert "labels 0..1" in text
    assert "got 2" in text
    names = tmp_path / "classes.csv"
    names.write_text("name,id\na,0\nb,1\n")
    assert "labels 0..1" in study.refusal(separable(LENGTHS), classes=str(names))
    four = study.refusal(separable(LENGTHS), classes=str(names), n_classes=4)
    assert all(part in four for part in (str(names), "expected 4 class names", "got 2"))


def test_what_is_missing_is_named(study: Study) -> None:
    none = str(study.folder / "none")
    assert none in study.refusal(separable(LENGTHS), features=none)
    assert none in study.refusal(separable(LENGTHS), validation=none)
    assert none in study.refusal(separable(LENGTHS), classes=none)


def test_a_validation_table_of_other_features_is_refused(study: Study) -> None:
    other = study.write(make_table(LENGTHS, feature_dim=5))
    text = study.refusal(separable(LENGTHS), validation=other)
    assert all(part in text for part in (other, "(T, 4)", "(T, 5)"))


def test_one_video_cannot_be_split(study: Study) -> None:
    text = study.refusal(separable([4]))
    assert "holds out all of the 1 labeled videos" in text


@pytest.mark.parametrize(
    ("keys", "parts"),
    [
        ({"epoch": 3}, ("'epoch'", "'epochs'")),
        ({"dropout": 1}, ("dropout", "less than 1", "got 1")),
        ({"n_max": 0}, ("n_max", "greater than or equal to 1", "got 0")),
        ({"learning_rate": 0}, ("learning_rate", "greater than 0", "got 0")),
        ({"validation": 1.5}, ("validation", "less than 1", "1.5")),
        ({"batch_norm": "yes"}, ("batch_norm", "'yes'")),
        ({"features": None}, ("features", "None")),
    ],
)
def test_specs_that_are_none_are_refused(study: Study, keys: dict[str, Any], parts: tuple[str, ...]) -> None:
    text = study.refusal(separable(LENGTHS), kind=SpecError, **keys)
    assert all(part in text for part in parts), text


# --- trainings that cannot be done as asked


def test_batch_norm_without_hidden_layers(study: Study) -> None:
    assert study.train(separable(LENGTHS), hidden_layers=0, batch_norm=True, epochs=1).videos == 54


@pytest.mark.parametrize("validation_lengths", [[1] * 12, [2] * 12])
def test_validation_videos_may_be_shorter_than_the_longest_head(study: Study, validation_lengths: list[int]) -> None:
    short = study.write(separable(validation_lengths, seed=1))
    result = study.train(separable(LENGTHS), validation=short)
    assert result.accuracy[3] is None
    assert result.accuracy_f > 0.9


def test_a_seed_below_zero_is_a_seed(study: Study) -> None:
    """As it is in a job."""
    assert study.train(separable(LENGTHS), seed=-1, epochs=1).videos == 54


def test_batch_norm_with_a_single_video_that_is_long_enough_is_told(study: Study) -> None:
    study.refusal(separable([1] * 20 + [3]), batch_norm=True, validation=study.write(separable([3] * 3, seed=1)))


def test_batch_norm_with_batches_of_one_is_told(study: Study) -> None:
    keys = study.keys(separable(LENGTHS), batch_norm=True, batch=1)
    with pytest.raises(EsvError, match="batch"):
        train(load_train_spec(keys))


def test_a_head_that_diverges_is_a_failed_one(study: Study) -> None:
    result = study.train(separable(LENGTHS), learning_rate=1e30)
    assert (result.job.exit_code, result.job.counts.failed, result.trained) == (1, 3, None)
    reasons = dict(result.job.failed)
    assert reasons.keys() == {"f^1, seed 0", "f^2, seed 0", "f^3, seed 0"}
    assert all("diverged" in reason and "lower learning_rate" in reason for reason in reasons.values())
    assert not (Path(result.output) / "model.json").exists()


def test_broken_class_names_are_named(study: Study) -> None:
    broken = study.folder / "classes.csv"
    broken.write_text("a,b\nc,0\n")
    assert str(broken) in study.refusal(separable(LENGTHS), kind=ModelError, classes=str(broken))


def test_the_table_with_the_label_beyond_is_named(study: Study) -> None:
    held = study.write(separable([4] * 6, [0, 1, 2, 3, 4, 5]))
    assert held in study.refusal(separable(LENGTHS), n_classes=3, validation=held)


def test_a_share_that_leaves_nothing_is_told(study: Study) -> None:
    assert "at least two" not in study.refusal(separable(LENGTHS), validation=0.99)


@pytest.mark.parametrize("broken", [[1.0], [1.0, 2.0, 3.0, 4.0, 5.0]])
def test_a_broken_row_among_the_first_is_left_out(study: Study, broken: list[float]) -> None:
    rows = separable(LENGTHS).to_pylist()
    rows[3]["features"][1] = broken
    table = pa.Table.from_pylist(rows, schema=separable(LENGTHS).schema)
    assert study.train(table, epochs=1).left_out == 1


# --- classes and videos that need a word


def test_classes_without_a_training_video_are_named(study: Study, tmp_path: Path) -> None:
    result = study.train(separable(LENGTHS), n_classes=5, epochs=1)
    assert result.notes == ("2 of 5 classes have no training video, so their prior is 0 and no head learns them: 3, 4",)
    names = tmp_path / "names.csv"  # not beside the table under the name that is looked for
    names.write_text("name,id\na,0\nb,1\nc,2\nd,3\n")
    named = study.train(separable(LENGTHS), classes=str(names), epochs=1)
    assert named.notes[0].endswith("no head learns them: 3 'd'")
    many = study.train(separable(LENGTHS), n_classes=20, epochs=1)
    assert many.notes[0].startswith("17 of 20 classes")
    assert many.notes[0].endswith("learns them: 3, 4, 5, 6, 7, ...")
    assert study.train(separable(LENGTHS), epochs=1).notes == ()


def test_a_mark_of_unlabelled_videos_is_not_taken_for_a_class_in_silence(study: Study) -> None:
    labels = [index % 3 for index in range(58)] + [255] * 2
    table = separable([4] * 60, labels)
    notes = study.train(table, epochs=1, validation=0.1).notes
    assert notes[0].startswith("252 of 256 classes have no training video")
    assert notes[-1] == (
        "the number of classes, 256, follows from the largest label, 255 (2 videos); if it marks videos without a "
        "label, add it to `unlabelled` in the spec; otherwise give n_classes"
    )
    assert not any("largest label" in note for note in study.train(table, epochs=1, n_classes=256).notes)
    assert not any("largest label" in note for note in study.train(table, epochs=1, unlabelled=[255]).notes)


def test_a_table_without_rows(study: Study) -> None:
    assert "expected videos, got a table without rows" in study.refusal(make_table([3])[:0])


def test_labels_that_do_not_begin_at_0_need_the_number_of_classes(study: Study) -> None:
    table = separable([4] * 40, [10 + index % 4 for index in range(40)])
    message = study.refusal(table)
    assert "expected labels that count classes from 0, got labels from 10 to 13" in message
    assert "n_classes (at least 14)" in message
    assert study.train(table, epochs=1, n_classes=20).notes[0].startswith("16 of 20 classes have no training video")


# --- tables as people have them


NAMES = ("walk", "run", "jump")


def foreign(table: pa.Table) -> pa.Table:
    """The same videos under other names, with names of classes as labels and flat lists of features."""
    labels = pa.array([None if label is None else NAMES[label] for label in table.column("label").to_pylist()])
    columns = {"id": table.column("video_id"), "x": flattened(table).column("features"), "y": labels}
    return pa.table({**columns, "features": pa.array(["notes"] * table.num_rows)})


COLUMNS = {"video_id": "id", "features": "x", "label": "y"}


@pytest.mark.slow
def test_a_foreign_table_trains_the_same_heads(study: Study, tmp_path: Path) -> None:
    names = tmp_path / "names.csv"
    names.write_text("id,name\n" + "".join(f"{index},{name}\n" for index, name in enumerate(NAMES)))
    table, held = separable(LENGTHS), separable([4] * 9, seed=5)
    held = held.set_column(0, "video_id", pa.array([f"held{index}" for index in range(9)]))
    mine = study.train(table, validation=study.write(held), classes=str(names))
    options: dict[str, Any] = {"columns": COLUMNS, "feature_dim": 4, "classes": str(names)}
    theirs = study.train(foreign(table), validation=study.write(foreign(held)), **options)
    assert heads(mine.output) == heads(theirs.output)
    assert (mine.accuracy, mine.accuracy_f, mine.left_out) == (theirs.accuracy, theirs.accuracy_f, 0)
    assert load_model(theirs.output).classes == NAMES
    assert theirs.left_out == 0


def test_what_a_foreign_table_needs_is_named(study: Study, tmp_path: Path) -> None:
    names = tmp_path / "names.csv"
    names.write_text("name,id\nwalk,0\nrun,1\njump,2\n")
    table, whole = foreign(separable(LENGTHS)), {"columns": COLUMNS, "feature_dim": 4, "classes": str(names)}

    def without(key: str, **keys: Any) -> str:
        return study.refusal(table, **{**{name: value for name, value in whole.items() if name != key}, **keys})

    assert "features are flat lists of T * D numbers, which do not say D; give it as feature_dim, or" in without(
        "feature_dim"
    )
    message = without("classes")
    assert "column 'y' (columns.label) holds names of classes, such as 'walk', whose ids are not known" in message
    assert "give them as classes, a CSV file with the header name,id" in message
    assert "expected a column 'video_id', got columns ['id', 'x', 'y', 'features']" in without("columns")
    message = without("feature_dim", feature_dim=1000)
    assert "found none in 60 rows (60: features must be flat lists of T * 1000 numbers, got 12, which is no" in message
    assert "features must be (T, 5), got (T, 4)" in study.refusal(separable(LENGTHS), feature_dim=5)


def test_names_that_training_leaves_out_are_counted(study: Study, tmp_path: Path) -> None:
    names = tmp_path / "names.csv"
    names.write_text("name,id\nwalk,0\nrun,1\n")
    result = study.train(
        foreign(separable(LENGTHS)), columns=COLUMNS, feature_dim=4, classes=str(names), epochs=1, n_max=2
    )
    assert (result.left_out, result.videos + result.validation_videos) == (20, 40)
    (note,) = [note for note in result.notes if "left out" in note]
    assert note.endswith(
        ": 20 rows left out (20: label 'jump' is not a class: expected an id, or a name in the classes.csv in use)"
    )


def test_a_class_whose_only_video_is_validated_on_is_named(study: Study) -> None:
    labels = [0] * 30 + [1] * 29 + [2]
    table = separable([4] * 60, labels)
    result = study.train(table, validation=0.6, epochs=1)
    assert load_model(result.output).prior.tolist()[2] == 0
    assert result.notes[0].startswith("1 of 3 classes have no training video")
    assert result.notes[1].startswith("of these, validation took all videos of 1: 2; give more videos")
    # A share so small that one video is held out, of whichever class it is.
    kinds = {study.train(separable([4] * 3), validation=0.1, epochs=1, seed=seed, n_max=1).notes[1] for seed in (0, 1)}
    assert all("validation took all videos of 1: " in note for note in kinds)
    other = study.write(separable([4] * 6, [0, 1, 2, 3, 0, 1], seed=1))
    by_table = study.train(separable([4] * 30, [0, 1] * 15), validation=other, epochs=1)
    assert "2 of 4 classes" in by_table.notes[1]
    assert "the validation table has all videos of 2: 2, 3" in by_table.notes[2]


def test_a_training_table_is_not_its_own_validation_table(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(study.write(separable(LENGTHS)))
    link, hard, copy = (study.folder / f"{name}.parquet" for name in ("link", "hard", "copy"))
    folder, linked = study.folder / "folder", study.folder / "linked"
    link.symlink_to(path)
    hard.hardlink_to(path)
    folder.mkdir()
    (folder / "part.parquet").symlink_to(path)
    linked.symlink_to(folder)
    copy.write_bytes(path.read_bytes())
    monkeypatch.chdir(path.parent)
    spellings = [path, path.name, f"./{path.name}", f"file://{path}", path.parent / "folder" / ".." / path.name]
    for validation in map(str, [*spellings, link, hard, folder, linked, f"{path.parent}/table-*.parquet"]):
        text = study.refusal(separable(LENGTHS), features=str(path), validation=validation)
        spelled = storage.absolute(validation)
        assert text.startswith(f"{spelled}: expected a validation table that shares no file with {path}"), text
        assert "validation=0.1" in text
    text = study.refusal(separable(LENGTHS), features=str(path), validation=str(copy))
    assert text.startswith(f"{copy}: expected videos that are not in {path}, but all 60 of them are in it")


def test_a_validation_table_that_is_a_part_of_the_training_table_is_refused(study: Study) -> None:
    folder = study.folder / "features"
    folder.mkdir()
    for name in ("a", "b"):
        pq.write_table(separable(LENGTHS[:30]), folder / f"{name}.parquet")
    for features, validation in ((folder, folder / "b.parquet"), (folder / "b.parquet", folder)):
        text = study.refusal(separable(LENGTHS), features=str(features), validation=str(validation))
        assert f"files in both ({folder / 'b.parquet'})" in text


def test_ids_in_both_tables_are_counted(study: Study) -> None:
    held = separable([4] * 70, seed=1).slice(55)  # 5 of these 15 ids are training videos' too
    result = study.train(separable(LENGTHS), validation=study.write(held), epochs=1)
    assert result.notes == (
        "5 of 15 validation videos have the id of a training video ('v55', 'v56', 'v57', 'v58', 'v59'): "
        "accuracies are too high if they are the same videos",
    )
    rows = separable(LENGTHS).to_pylist()[:3] + separable([4] * 70, seed=1).to_pylist()[60:]
    some = pa.Table.from_pylist(rows, schema=held.schema)
    assert (
        "3 of 13 validation videos" in study.train(separable(LENGTHS), validation=study.write(some), epochs=1).notes[0]
    )
