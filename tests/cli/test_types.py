"""Values of options, on every command: empty locations, file:// URLs, and the spellings of numbers in specs."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from esv_ray import cli
from esv_ray.cli.types import LOCATION, NAME, Count, LocalPath, Location, Name, Real
from esv_ray.errors import SpecError

PLACES = ["--features", "f", "--model", "m"]
COMMANDS = [
    ["attribute", *PLACES, "--output"],
    ["attribute", "--model", "m", "--output", "o", "--features"],
    ["attribute", "--features", "f", "--output", "o", "--model"],
    ["attribute"],
    ["attribute", *PLACES, "--output", "o", "--log"],
    ["plan", *PLACES, "--output"],
    ["plan", *PLACES, "--output", "o", "--bench"],
    ["submit", *PLACES, "--output"],
    ["submit", *PLACES, "--output", "o", "--working-dir"],
    ["submit", *PLACES, "--output", "o", "--kubernetes", "--overlay"],
    ["render", *PLACES, "--output"],
    ["render", *PLACES, "--output", "s3://b/o", "--overlay"],
    ["train"],
    ["train", "--features", "f", "--output"],
    ["train", "--output", "o", "--features"],
    ["import", "model", "x", "--from", "play-fair", "--prior", "p", "--out"],
    ["import", "model", "x", "--from", "play-fair", "--out", "o", "--prior"],
    ["import", "model", "x", "--from", "play-fair", "--out", "o", "--prior", "p", "--classes"],
    ["import", "model", "--from", "play-fair", "--out", "o", "--prior", "p"],
    ["import", "features", "x.h5", "--from", "play-fair", "--out"],
    ["import", "features", "--from", "play-fair", "--out", "o"],
    ["demo"],
    ["verify"],
    ["verify", "o", "--features"],
    ["verify", "o", "--recompute", "1", "--model"],
    ["analyze"],
    ["status"],
    ["logs"],
    ["stop"],
    ["convergence", "--model", "m", "--features"],
    ["convergence", "--features", "f", "--model"],
    ["convergence", *PLACES, "--output"],
    ["bench", "--json"],
    ["bench", "--compare"],
]
JOBS = (["logs"], ["stop"])  # which take the name of a job, too


@pytest.mark.parametrize("empty", ["", " "])
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_an_empty_location_is_refused_before_anything_is_done(
    words: list[str], empty: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = CliRunner().invoke(cli.cli, [*words, empty])
    assert isinstance(ended.exception, SpecError), ended.output
    assert list(tmp_path.iterdir()) == []
    message = str(ended.exception)
    assert "a variable in it may be empty" in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    "words",
    [
        ["verify", "o", "--recompute"],
        ["bench", "-n"],
        ["convergence", *PLACES, "--threshold"],
        ["attribute", *PLACES, "--output", "o", "--partitions", "--ready"],
        ["submit", *PLACES, "--output", "o", "--partitions", "--ready"],
        ["submit", *PLACES, "--output", "o", "--name"],
        ["submit", *PLACES, "--output", "o", "--address"],
        ["status", "--address"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("empty", ["", " "])
def test_an_empty_number_or_name_is_refused_with_the_same_message(words: list[str], empty: str) -> None:
    ended = CliRunner().invoke(cli.cli, [*words, empty])
    assert isinstance(ended.exception, SpecError), ended.output
    message = str(ended.exception)
    assert message.startswith(f"{words[-1]}: expected a n")
    assert message.endswith(f", got {empty!r}; a variable in it may be empty")


@pytest.mark.parametrize("key", ["features", "output"])
@pytest.mark.parametrize("command", ["attribute", "plan", "train"])
def test_an_empty_location_in_set_is_not_reported_as_missing(command: str, key: str) -> None:
    places = {"features": "f", "output": "o", **({} if command == "train" else {"model": "m"})}
    words = [word for name, url in places.items() if name != key for word in (f"--{name}", url)]
    for text, said in (("", f"--set '{key}': expected a value after ="), ("''", f"{key}: expected a location")):
        ended = CliRunner().invoke(cli.cli, [command, *words, "--set", f"{key}={text}"])
        assert isinstance(ended.exception, SpecError), ended.output
        assert said in str(ended.exception)
        assert "a variable in it may be empty" in str(ended.exception)
    ended = CliRunner().invoke(cli.cli, [command, *words, "--set", "short=all"])
    assert f"; missing --{key}" in ended.output


def test_all_locations_may_be_set_as_keys(tmp_path: Path) -> None:
    words = [word for key in ("features", "model", "output") for word in ("--set", f"{key}={tmp_path / key}")]
    ended = CliRunner().invoke(cli.cli, ["attribute", *words])
    assert "no model.json" in str(ended.exception)


def parameters(command: click.Command) -> list[click.Parameter]:
    below = list(command.commands.values()) if isinstance(command, click.Group) else []
    return [*command.params, *(parameter for inner in below for parameter in parameters(inner))]


def test_every_option_has_a_checked_type() -> None:
    """A new option for a location or a number must have one of the types of `cli.types`."""
    for parameter in parameters(cli.cli):
        if parameter.metavar in ("URL", "CSV", "DIR", "FILE", "[DIR]") and parameter.name != "address":
            assert isinstance(parameter.type, Location | LocalPath), parameter
        if isinstance(parameter, click.Argument):
            assert isinstance(parameter.type, Location | LocalPath | Name), parameter
        if isinstance(parameter.type, click.Path):
            assert isinstance(parameter.type, LocalPath), parameter
        number = isinstance(parameter.type, click.types.IntParamType | click.types.FloatParamType)
        if number and not (isinstance(parameter, click.Option) and parameter.count):
            assert isinstance(parameter.type, Count | Real), parameter


def converted(type_: object, text: str) -> object:
    @click.command()
    @click.option("--x", type=type_)
    def command(x: object) -> None:
        results.append(x)

    results: list[object] = []
    command.main(["--x", text], standalone_mode=False)
    return results[0]


@pytest.mark.parametrize(
    ("text", "value"), [("1e3", 1000), ("010", 10), ("0o10", 8), ("+7", 7), ("2.0", 2), (" 5 ", 5)]
)
def test_whole_numbers(text: str, value: int) -> None:
    assert converted(Count(1), text) == value
    assert type(converted(Count(), text)) is int


@pytest.mark.parametrize(
    "text", ["1_000", "1.5", "yes", "true", "", "\u0663", "1:30", "'3'", "3 # x", "[3]", ".inf", "9" * 5000]
)
def test_invalid_whole_numbers(text: str) -> None:
    with pytest.raises(SpecError, match=r"^--x: ") as caught:
        converted(Count(1), text)
    assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(click.BadParameter, match="range"):
        converted(Count(1), "0e0")


def test_numbers() -> None:
    assert converted(Real(0), "1e-1") == converted(Real(0), ".1") == 0.1
    for text in ("nan", ".nan", ".inf", "1e400", "yes", "true", "1_0", ""):
        with pytest.raises(SpecError, match=r"^--x: expected a "):
            converted(Real(0), text)
    with pytest.raises(click.BadParameter, match="range"):
        converted(Real(0), "-1e0")


def test_locations(tmp_path: Path) -> None:
    assert converted(LOCATION, "file:///a%20b") == converted(LocalPath(), "file:///a%20b") == "/a b"
    assert converted(LOCATION, "s3://b/a%20b") == "s3://b/a%20b"
    assert converted(LocalPath(path_type=Path), "a%20b") == Path("a%20b")
    assert converted(LocalPath(), "-") == "-"
    assert converted(NAME, "a b") == "a b"
    (tmp_path / "a b").mkdir()
    assert converted(LocalPath(exists=True, file_okay=False), f"file://{tmp_path}/a%20b") == f"{tmp_path}/a b"


@pytest.mark.parametrize("words", [words for words in COMMANDS if words not in JOBS], ids=" ".join)
def test_two_colons_are_refused_before_anything_is_done(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    ended = CliRunner().invoke(cli.cli, [*words, "./a::b"])
    assert isinstance(ended.exception, SpecError), ended.output
    assert "a::b: expected a location without ::" in str(ended.exception)
    assert [*tmp_path.rglob("*")] == [tmp_path / "a"]


def test_figures_inside_the_features_are_refused(tmp_path: Path) -> None:
    (tmp_path / "table").mkdir()
    (tmp_path / "alias").symlink_to("table")
    words = ["convergence", "--features", str(tmp_path / "table"), "--model", "m", "--output"]
    for name in ("table", "table/out", "alias/out"):
        ended = CliRunner().invoke(cli.cli, [*words, str(tmp_path / name)])
        assert isinstance(ended.exception, SpecError), ended.output
        assert "lies inside features" in str(ended.exception)
    assert not any((tmp_path / "table").iterdir())


@pytest.mark.parametrize(
    "words",
    [
        ["demo", "s3://bucket/demo"],
        ["bench", "--json", "s3://bucket/figures.json"],
        ["attribute", *PLACES, "--output", "o", "--log", "s3://bucket/log"],
        ["demo", "file://demo"],
        ["train", "file://train.yaml"],
    ],
    ids=" ".join,
)
def test_a_location_that_would_become_an_odd_folder_is_refused(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = CliRunner().invoke(cli.cli, words)
    assert isinstance(ended.exception, SpecError), ended.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_file_urls_from_training_to_analysis(tmp_path: Path) -> None:
    data, home = Path(__file__).parents[2] / "jobs" / "demo", f"file://{tmp_path}/sp%20ace"
    places = ["--features", f"file://{data}/test%2Eparquet", "--model", f"{home}/model", "--output", f"{home}/esv"]
    settings = [word for key in ("epochs=1e0", "hidden=4", "n_max=2", "validation=1e-1") for word in ("--set", key)]
    for words in (
        ["train", "--features", f"file://{data}/train%2Eparquet", "--output", f"{home}/model", *settings],
        ["attribute", *places, "--set", "cluster.actors=0", "--set", "frames=2e0"],
        ["verify", f"{home}/esv", "--recompute", "1e0"],
        ["analyze", f"{home}/esv"],
        ["status", f"{home}/esv"],
    ):
        ended = CliRunner().invoke(cli.cli, words)
        assert (ended.exit_code, ended.exception) in ((0, None),), ended.output
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("*/*")} == {"sp ace/esv", "sp ace/model"}


def test_a_location_of_several_lines_is_unchanged(tmp_path: Path) -> None:
    from esv_ray.cli.options import JobArguments, read_job

    for name in ("a\nb", "it's: here", "yes", "1e3", "#x", "a\x85b"):
        place = str(tmp_path / name)
        job = read_job(JobArguments(None, place, place, place, (), ()))
        assert (job.features, job.model, job.output) == (place, place, place)
