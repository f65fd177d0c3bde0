"""YAML as specs have it: the meanings of 1.2 in files, in --set and in what is sent to clusters, and no key twice."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from esv_ray.errors import SpecError
from esv_ray.spec import JobSpec, fingerprint, job_keys, load_spec
from esv_ray.spec_train import TrainSpec, load_train_spec
from esv_ray.spec_yaml import read_plain, read_value, write_plain, write_text
from esv_ray.submit.kubernetes.manifest_yaml import read_objects
from esv_ray.submit.ray_jobs.preflight import packed
from esv_ray.submit.submission import spec_text
from tests.support.specs import SECTIONS, at

JOB = "features: /f\nmodel: /m\noutput: /o\n"
TRAIN = "features: /f\noutput: /o\n"


def job(path: Path, text: str) -> JobSpec:
    path.write_text(JOB + text, encoding="utf-8")
    return load_spec(str(path))


def training(path: Path, text: str) -> TrainSpec:
    path.write_text(TRAIN + text, encoding="utf-8")
    return load_train_spec(str(path))


def refusal(path: Path, text: str, *, train: bool = False) -> str:
    """The line, which names the file, with which a spec is refused."""
    with pytest.raises(SpecError) as caught:
        (training if train else job)(path, text)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert len(message.splitlines()) == 1
    return message.removeprefix(f"{path}: ")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spec.yaml"


# --- meanings

MEANINGS: list[tuple[str, object]] = [
    ("yes", "yes"),
    ("No", "No"),
    ("on", "on"),
    ("y", "y"),
    ("true", True),
    ("FALSE", False),
    ("tRue", "tRue"),
    ("null", None),
    ("~", None),
    ("nULL", "nULL"),
    ("010", 10),
    ("-007", -7),
    ("+3", 3),
    ("0o10", 8),
    ("0x1F", 31),
    ("0b11", "0b11"),
    ("0O10", "0O10"),
    ("1_000", "1_000"),
    ("1,000", "1,000"),
    ("1:30", "1:30"),
    ("1:30:00.5", "1:30:00.5"),
    ("1e3", 1000.0),
    ("1e-1", 0.1),
    ("1E+2", 100.0),
    ("-2.5e1", -25.0),
    (".5", 0.5),
    ("1.", 1.0),
    ("1.e2", 100.0),
    (".inf", float("inf")),
    ("-.INF", float("-inf")),
    ("inf", "inf"),
    ("nan", "nan"),
    (".", "."),
    ("1e", "1e"),
    ("2020-01-01", "2020-01-01"),
    ("2020-01-01T00:00:00Z", "2020-01-01T00:00:00Z"),
    ("=", "="),
    ("'010'", "010"),
    ('"true"', "true"),
    ("!!str 010", "010"),
    ("!!int '010'", 10),
    ("!!float 8", 8.0),
    ("!!bool 'true'", True),
    ("!!seq [1]", [1]),
    ("!!map {a: 010}", {"a": 10}),
    ("[010, {a: no}]", [10, {"a": "no"}]),
    ("&a 010", 10),
    ("\ufeff010", 10),
    ("größe 動画 \U0001f3a5", "größe 動画 \U0001f3a5"),
    ("a\u2028b", "a\u2028b"),
    ("|\n a\n b\n", "a\nb\n"),
]


@pytest.mark.parametrize(("text", "value"), MEANINGS)
def test_a_text_has_the_meaning_of_the_core_schema(text: str, value: object) -> None:
    for read in (
        read_plain,
        read_value,
        lambda text: read_plain(text.encode()),
        lambda text: read_plain(text + "\r\n"),
    ):
        parsed = read(text)
        assert (parsed, type(parsed)) == (value, type(value)) or text[0] == "|"


@pytest.mark.parametrize("text", ["true", "010", "1e3", "yes", "1:30", "2020-01-01"])
def test_utf_16_means_the_same(text: str) -> None:
    assert read_plain(("\ufeff" + text).encode("utf-16-le")) == read_plain(text)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("!!int 1:30", ("line 1", "a whole number after !!int", "'1:30'")),
        ("!!int 1_0", ("a whole number", "'1_0'")),
        ("!!bool yes", ("true or false after !!bool", "'yes'")),
        ("!!float x", ("a number after !!float",)),
        ("!!null x", ("null after !!null",)),
        ("!!map [1]", ("keys and values after !!map",)),
        ("!!binary YQ==", ("!!binary", "remove the tag")),
        ("!!timestamp 2020-01-01", ("!!timestamp", "remove the tag")),
        ("!!set {a, b}", ("!!set", "remove the tag")),
        ("!!omap [a: 1]", ("!!omap", "remove the tag")),
        ("!!python/object/apply:os.getcwd []", ("python/object/apply", "remove the tag")),
        ("!mine x", ("!mine", "remove the tag")),
        ("%YAML 1.1\n---\n010", ("expected YAML 1.2", "remove that line")),
        ("a: &a [1]\nb: *a", ("no YAML aliases", "quotes")),
        ("*parquet", ("no YAML aliases", "quotes")),
        ("a: 1\n<<: {b: 2}", ("line 2", "no merge keys")),
        ("a\x85b", ("U+0085",)),
        ("1: x", ("line 1", "a key that is text", "'1'")),
        ("a:\n  - {true: x}", ("line 2", "a key that is text", "'true'")),
        ("null: x", ("a key that is text", "'null'")),
        ("a: 1\n~: x", ("line 2", "a key that is text", "'~'")),
        ("? [a]\n: x", ("a key that is text", "a list or keys")),
        ("8\n---\n9", ("not valid YAML", "document")),
        ("[" * 30 + "]" * 30, ("at most 20 levels",)),
        ("9" * 5000, ("not valid YAML",)),
        ("x" * 100_001, ("at most 100000 bytes",)),
    ],
)
def test_what_has_no_plain_meaning_is_refused_with_its_line(text: str, parts: tuple[str, ...]) -> None:
    with pytest.raises(SpecError) as caught:
        read_plain(text)
    assert len(str(caught.value).splitlines()) == 1
    assert all(part in str(caught.value) for part in parts), str(caught.value)


def test_a_version_1_2_may_be_said() -> None:
    assert read_plain("%YAML 1.2\n---\na: 010\n") == {"a": 10}


# --- keys


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("frames: 1\nframes: 2\n", "'frames' is given twice, in lines 4 and 5"),
        ('frames: 1\n# again\n"frames": 1\n', "'frames' is given twice, in lines 4 and 6"),
        ("output: /other\n", "'output' is given twice, in lines 3 and 4"),
        ("estimator:\n  m: 1\n  seed: 2\n  m: 3\n", "'m' is given twice, in lines 5 and 7"),
        ("estimator: {m: 1, m: 2}\n", "'m' is given twice, in line 4, columns 13 and 19"),
        (
            "estimator: {m: 1}\ncompute: {unit: 1}\nestimator: {seed: 2}\n",
            "'estimator' is given twice, in lines 4 and 6",
        ),
    ],
)
def test_a_key_given_twice_is_refused_with_both_lines(path: Path, text: str, message: str) -> None:
    assert message in refusal(path, text)


def test_a_key_given_twice_in_other_specs(path: Path) -> None:
    assert "'epochs' is given twice, in lines 3 and 4" in refusal(path, "epochs: 1\nepochs: 2\n", train=True)
    with pytest.raises(SpecError, match="--set 'estimator': the key 'm' is given twice, in line 1, columns 2 and 8"):
        load_spec({"features": "f", "model": "m", "output": "o"}, ["estimator={m: 1, m: 2}"])


def test_the_same_key_in_two_sections_is_no_key_twice(path: Path) -> None:
    spec = job(path, "estimator: {output: logit}\ncompute: {threads: 2}\n")
    assert (spec.estimator.output, spec.output) == ("logit", "/o")


# --- values

WHOLE = ["010", "1e1", "10.0", "0o12", "0xA", "+10", "1.0E+1"]
JOB_WHOLE = [
    f"{section}.{key}"
    for section, keys in (
        ("estimator", ("m", "iterations", "seed", "max_iterations")),
        ("compute", ("batch", "threads", "unit", "memory_budget")),
        ("cluster", ("actors",)),
        ("variations", ("shuffles", "steps")),
    )
    for key in keys
]
TRAIN_WHOLE = [
    "feature_dim",
    "n_classes",
    "n_max",
    "hidden",
    "hidden_layers",
    "epochs",
    "patience",
    "batch",
    "seed",
    "seeds",
    "shuffle_buffer",
    "step_epochs",
    "threads",
]
REAL = ["max_failed", "estimator.tolerance", "cluster.gpus_per_actor", "cluster.stall_timeout"]
TRAIN_REAL = ["validation", "dropout", "learning_rate", "weight_decay", "warmup", "step_factor"]
NO_NUMBERS = ["yes", "no", "on", "true", "false", "'10'", "1_0", "1:30", "0b1", "10%", ".nan", "[1]", "{a: 1}", "x"]


def written(key: str, text: str) -> str:
    section, _, name = key.rpartition(".")
    return f"{section}: {{{name}: {text}}}\n" if section else f"{key}: {text}\n"


@pytest.mark.parametrize("text", WHOLE)
def test_every_key_of_whole_numbers_takes_every_spelling(path: Path, text: str) -> None:
    for key in JOB_WHOLE:
        for spec in (job(path, written(key, text)), load_spec(str(path), [f"{key}={text}"])):
            assert (at(spec, key), type(at(spec, key))) == (10, int)
    for key in TRAIN_WHOLE:
        for trained in (training(path, written(key, text)), load_train_spec(str(path), [f"{key}={text}"])):
            assert (at(trained, key), type(at(trained, key))) == (10, int)
    assert job(path, f"frames: {text}\nclasses: {text}\n").frames == (10,)
    spec = job(path, f"frames: [{text}, 10, 2.0]\nclasses: [{text}, label, 10]\n")
    assert (spec.frames, spec.classes) == ((2, 10), (10, "label"))
    assert {type(number) for number in (*spec.frames, spec.classes[0])} == {int}


def test_spellings_of_one_number_make_one_job(path: Path) -> None:
    prints = {
        fingerprint(job_keys(job(path, f"compute: {{memory_budget: {text}}}\n"))) for text in ("1e9", "1000000000")
    }
    assert len(prints) == 1


@pytest.mark.parametrize("text", ["1e-1", ".1", "0.10", "1E-1", "1.0e-1"])
def test_every_key_of_numbers_takes_every_spelling(path: Path, text: str) -> None:
    for key in REAL:
        for spec in (job(path, written(key, text)), load_spec(str(path), [f"{key}={text}"])):
            assert at(spec, key) == 0.1
    for key in TRAIN_REAL:
        for trained in (training(path, written(key, text)), load_train_spec(str(path), [f"{key}={text}"])):
            assert at(trained, key) == 0.1


@pytest.mark.parametrize("text", NO_NUMBERS)
def test_no_key_of_numbers_takes_anything_else(path: Path, text: str) -> None:
    for key in (*JOB_WHOLE, *REAL, "frames"):
        if text not in ("[1]", "x") or key != "frames":
            assert f"{key}" in refusal(path, written(key, text))
    for key in (*TRAIN_WHOLE, *TRAIN_REAL):
        if key != "validation" and (key, text) != ("hidden", "[1]"):  # a text is a location; widths may be a list
            assert f"{key}: expected " in refusal(path, written(key, text), train=True)


def test_keys_above_are_all_that_hold_numbers() -> None:
    numbers = {
        f"{section}.{key}" for section, kind in SECTIONS.items() for key, field in kind.model_fields.items()
        if not isinstance(field.default, str) and key not in ("address", "offsets") and section != "columns"
    }  # fmt: skip
    auto = {"compute.batch", "compute.unit", "compute.memory_budget", "cluster.actors", "cluster.gpus_per_actor"}
    assert numbers | auto | {"max_failed"} == {*JOB_WHOLE, *REAL}
    rest = {"features", "columns", "output", "classes", "batch_norm", "input_relu", "unlabelled", "cluster"}
    rest |= {"preset", "class_weights", "schedule", "precision"}
    assert set(TrainSpec.model_fields) - rest == {*TRAIN_WHOLE, *TRAIN_REAL}


@pytest.mark.parametrize("text", ["1.5", "1e-1", "1e400", ".inf", "1e16", "9007199254740994.0"])
def test_no_float_becomes_another_whole_number(path: Path, text: str) -> None:
    for key in ("estimator.seed", "frames", "compute.memory_budget"):
        assert "expected" in refusal(path, written(key, text))
    assert job(path, "estimator: {seed: 9007199254740993}\n").estimator.seed == 2**53 + 1


@pytest.mark.parametrize("text", ["1e3", "'1_000'", "'8'", "'1,5'"])
def test_a_number_written_as_text_is_told_how(path: Path, text: str) -> None:
    if text != "1e3":
        assert "without quotes, commas, _ or %" in refusal(path, f"estimator: {{m: {text}}}\n")
    assert "put it in quotes" in refusal(path, "cluster: {address: 1e3}\n")


@pytest.mark.parametrize("text", ["yes", "no", "on", "off", "1", "0", "1.0", "'true'", "null", "y"])
def test_true_and_false_alone_are_booleans(path: Path, text: str) -> None:
    for key in ("batch_norm", "input_relu"):
        assert f"{key}: expected true or false, got" in refusal(path, f"{key}: {text}\n", train=True)
        assert at(training(path, f"{key}: True\n"), key) is True


def test_texts_that_were_something_else(path: Path) -> None:
    spec = job(path, "cluster: {address: 2020-01-01}\ncode: [yes, on]\n")
    assert (spec.cluster.address, spec.code) == ("2020-01-01", ("yes", "on"))
    assert "'all' or 'skip', got 'no'" in refusal(path, "short: no\n")
    assert load_spec(str(path), ["output=/2020-01-01", "short=all"]).output == "/2020-01-01"
    assert "output: expected a string, got 2024; put it in quotes" in refusal_of_set("output=2024")


def test_the_share_of_a_validation(path: Path) -> None:
    assert training(path, "validation: 1e-1\n").validation == 0.1
    assert load_train_spec(str(path), ["validation=5e-1"]).validation == 0.5
    assert training(path, "validation: /d/0.1.parquet\n").validation == "/d/0.1.parquet"
    assert training(path, "validation: 0.1.parquet\n").validation == f"{Path.cwd()}/0.1.parquet"
    assert training(path, "validation: ./1e-1\n").validation == f"{Path.cwd()}/1e-1"
    for text in ("'1e-1'", "10%", "'0,1'", "1_0"):
        assert "a share such as 0.1, without quotes" in refusal(path, f"validation: {text}\n", train=True)
    for text in ("true", "[0.1]", "null", "''", "' '", ".nan", "1e0", "0e0"):
        assert "validation: expected" in refusal(path, f"validation: {text}\n", train=True)


# --- --set


def refusal_of_set(override: str) -> str:
    with pytest.raises(SpecError) as caught:
        load_spec({"features": "f", "model": "m", "output": "o"}, [override])
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize("value", ["*.parquet", "@x", "%x", "[a", "\ta", "`x`", "{a"])
def test_a_text_with_signs_of_yaml_is_told_how(value: str) -> None:
    message = refusal_of_set(f"features={value}")
    assert "--set 'features': not valid YAML" in message
    assert message.endswith("; put a text with such characters in quotes")
    assert load_spec(None, [f"features='/{value}'", "model=m", "output=o"]).features == f"/{value}"


@pytest.mark.parametrize("key", ["output", "features", "model", "frames", "cluster.address", "estimator", "code"])
@pytest.mark.parametrize("value", ["", " ", "\t"])
def test_an_empty_value_is_refused(key: str, value: str) -> None:
    message = refusal_of_set(f"{key}={value}")
    assert f"--set {key!r}: expected a value after =" in message
    assert "a variable in it may be empty" in message


@pytest.mark.parametrize(
    "override", ["output=/a #b", "frames=8 # eight", "frames=#8", "frames= # x\n 8", "code=[a] #b"]
)
def test_a_comment_is_not_dropped(override: str) -> None:
    assert "got a comment (#)" in refusal_of_set(override)


def test_a_number_sign_in_a_text() -> None:
    overrides = ["output=/a#b", "features='/a #b'", 'model="#c"']
    spec = load_spec(None, overrides)
    assert (spec.output, spec.features) == ("/a#b", "/a #b")
    assert spec.model.endswith("/#c")


def test_the_last_set_wins() -> None:
    spec = load_spec({"features": "f", "model": "m", "output": "o"}, ["frames=1", "estimator={m: 3}", "frames=1e1"])
    assert (spec.frames, spec.estimator.m) == ((10,), 3)


@pytest.mark.parametrize("value", ["", " ", "\n", "\u00a0"])
def test_empty_locations_and_texts(value: str) -> None:
    for key in ("features", "model", "output"):
        needed = {"features": "f", "model": "m", "output": "o", key: value}
        with pytest.raises(SpecError, match=f"spec: {key}: expected a location .*a variable in it may be empty"):
            load_spec(needed)
    for key in ("features", "output", "validation", "classes"):
        with pytest.raises(SpecError, match=f"spec: {key}: expected a location .*a variable in it may be empty"):
            load_train_spec({"features": "f", "output": "o", key: value})
    with pytest.raises(SpecError, match=r"cluster\.address: expected a text, got .*a variable in it may be empty"):
        load_spec({"features": "f", "model": "m", "output": "o", "cluster": {"address": value}})


# --- what is written is read as the same

UNCLEAR = [
    *(
        "yes",
        "no",
        "on",
        "off",
        "y",
        "N",
        "true",
        "null",
        "~",
        "",
        "=",
        "<<",
        "010",
        "0o10",
        "0b1",
        "0x1",
        "1_0",
        "1:30",
    ),
    *(
        "1e3",
        "12e5678",
        "1e-1",
        ".5",
        ".inf",
        "-.Inf",
        ".nan",
        "2020-01-01",
        "2020-01-01T00:00:00Z",
        "- a",
        "a: b",
        "#x",
    ),
    *(
        "@a",
        "a\nb",
        "a\n",
        " a",
        "a\x85b",
        "a\u2028b",
        "\ufeff",
        "\U0001f3a5",
        "it's",
        '"',
        "\\",
        "\t",
        "\x07",
        "%a",
        "*a",
    ),
]
texts = st.one_of(
    st.sampled_from(UNCLEAR), st.text(), st.text("0123456789abcdefxoE_+-.:~ynNofOFtruels=#*&!%@ \n\t\x85'\"")
)


@pytest.mark.slow
@settings(deadline=None, max_examples=300)
@given(texts)
@example("12e5678")
def test_a_text_is_read_as_it_was_written_by_every_reader(text: str) -> None:
    assert read_plain(write_text(text)) == text
    assert "\n" not in write_text(text)
    value = {"a": text, "b": [text], "c": {"d": text}}
    plain = write_plain(value)
    assert read_plain(plain) == yaml.safe_load(plain) == value
    assert read_objects(plain, "here") == [value]


@settings(deadline=None, max_examples=200)
@given(st.one_of(st.floats(allow_nan=False), st.integers(-(2**62), 2**62), st.booleans(), st.none()))
@example(1e-5)
@example(1e22)
def test_so_is_a_number(value: object) -> None:
    plain = write_plain({"a": value})
    for read in (read_plain(plain), yaml.safe_load(plain), read_objects(plain, "here")[0]):
        assert (read["a"], type(read["a"])) == (value, type(value))


@pytest.mark.parametrize(
    "text", [case for case in UNCLEAR if case.strip() and "\n" not in case and case == case.strip()]
)
def test_a_spec_that_is_sent_is_read_as_the_same(text: str) -> None:
    name = text.replace("/", "")
    spec = load_spec(
        {"features": f"/{name}/f", "model": f"s3://b/{name}", "output": "/o", "cluster": {"address": text}},
        ["max_failed=1e-5", "estimator.tolerance=1e-3", "classes=[0x10, top:3]"],
    )
    assert load_spec(read_plain(spec_text(spec))) == spec
    assert load_spec(read_plain(zlib.decompress(base64.b64decode(packed(spec))))) == spec
    assert load_spec(json.loads(json.dumps(spec.model_dump(mode="json")))) == spec


@pytest.mark.parametrize(
    "text",
    [
        *("a:\t4\n", "a: 4\t\n", "a: 4\t# b\n", "a:\t4\t#b\n", "a\t: 4\n", "a:\t'q'\t\n", "a:\t\n  b: 1\n"),
        *("a: [1,\t2]\n", "a: {b:\t1,\tc: 2}\n", "a: {\n\tb: 1,\n\t}\n", "\n\t\na: 1\n  \t\n\t# c\nb: 2\t", "x\t"),
    ],
)
def test_tabs_separate_as_spaces_do(text: str) -> None:
    assert read_plain(text) == read_plain(text.encode()) == read_plain(text.replace("\t", " "))


def test_tabs_within_texts_stay() -> None:
    for text in ("a: x\t y\n", "a: 'x\t y'\n", 'a: "x\t y"\n', "a: [x\t y\t]\n"):
        assert read_plain(text)["a"] in ("x\t y", ["x\t y"])


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        *(("\ta: 1\n", 1, 1), ("a:\n\tb: 1\n", 2, 1), ("a:\n  b: 1\n  \tc: 2\n", 3, 3), ("-\t- b\n", 1, 2)),
        *(("a: x\n\ty\n", 2, 1), ("a: !!str\t1\n", 1, 9), ("a: |\t\n  x\n", 1, 5)),
    ],
)
def test_tabs_that_would_indent_are_told_of(text: str, line: int, column: int) -> None:
    message = f"not valid YAML: line {line}, column {column}: expected a space, got a tab; replace it by spaces"
    with pytest.raises(SpecError, match=f"^{message}$"):
        read_plain(text)
