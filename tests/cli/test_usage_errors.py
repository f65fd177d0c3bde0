"""Wrong options and values: one line that names the help page, as other errors, for every command."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest

from esv_ray import cli
from tests.support.command import run


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


COMMANDS = dict(commands(cli.cli))
REQUIRED = [
    path
    for path, command in COMMANDS.items()
    if any(p.required for p in command.params if not isinstance(p, click.Option))
]
LIMITED = [
    (path, option.opts[0])
    for path, command in COMMANDS.items()
    for option in command.params
    if isinstance(option, click.Option) and isinstance(option.type, click.IntRange) and option.type.min in (0, 1)
]


@pytest.fixture
def refusal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    """The line, without `esv: `, of a command that refuses."""

    def refused(*words: str) -> str:
        code, out, err = run(*words, monkeypatch=monkeypatch, capsys=capsys)
        assert (code, out) == (2, ""), err
        assert err.startswith("esv: ")
        assert err.count("\n") == 1, err
        return err.removeprefix("esv: ").removesuffix("\n")

    return refused


def test_every_command_is_there() -> None:
    assert {("attribute",), ("train",), ("import",), ("import", "model"), ("import", "features")} <= {*COMMANDS}
    assert len(REQUIRED) >= 6
    assert (("import", "model"), "--feature-dim") in LIMITED


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_unknown_options(refusal, path: tuple[str, ...]) -> None:  # type: ignore[no-untyped-def]
    text = refusal(*path, "--no-such-thing")
    assert text.startswith("No such option '--no-such-thing'")
    assert text.lower().endswith(f"see esv {' '.join(path)} --help")


@pytest.mark.parametrize("path", REQUIRED, ids=" ".join)
def test_missing_arguments(refusal, path: tuple[str, ...]) -> None:  # type: ignore[no-untyped-def]
    text = refusal(*path)
    assert text.startswith(("Missing argument ", "Missing option "))
    assert text.endswith(f"; see esv {' '.join(path)} --help")


@pytest.mark.parametrize(("path", "option"), LIMITED, ids=str)
def test_numbers_out_of_range(refusal, path: tuple[str, ...], option: str) -> None:  # type: ignore[no-untyped-def]
    text = refusal(*path, option, "-1")
    assert f"Invalid value for '{option}'" in text
    assert "-1 is not in the range" in text
    assert text.endswith(f"; see esv {' '.join(path)} --help")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("impotr", "No such command 'impotr'. Did you mean 'import'? See esv --help"),
        ("import modle", "No such command 'modle'. Did you mean 'model'? See esv import --help"),
        ("--verison", "No such option '--verison'. Did you mean '--version'? See esv --help"),
        ("attribute --output", "Option '--output' requires an argument; see esv attribute --help"),
        ("import model --out", "Option '--out' requires an argument; see esv import model --help"),
        ("train spec.yaml other.yaml", "Got unexpected extra argument (other.yaml); see esv train --help"),
        ("verify o --code x", "--code and --model require --recompute; see esv verify --help"),
        (
            "import model --prior uniform --out o --from clip x.npy --scale 0",
            "Invalid value for '--scale': 0.0 is not in the range x>0; see esv import model --help",
        ),
        (
            "import model --prior uniform --out o --from linear x.pth --over other",
            "Invalid value for '--over': 'other' is not one of 'logits', 'probabilities'; see esv import model --help",
        ),
        (
            "import model --from linear --out o x.pth --prior a=uniform --outputs a=1",
            "Invalid value for '--outputs': expected NAME=FROM:TO with FROM below TO, for example verbs=0:97, got "
            "'a=1'; see esv import model --help",
        ),
        (
            "import model --from linear --out o x.pth --prior a=uniform --outputs a.b=0:1",
            "Invalid value for '--outputs': expected a NAME of letters, digits, _ and -, got 'a.b' in 'a.b=0:1'; see "
            "esv import model --help",
        ),
        (
            "import model --from linear --out o x.pth",
            "Missing option '--prior'. Give a CSV with the frequency of each class (header class,prior), labels:TABLE "
            "to count the labels of a feature table, or uniform; see esv import model --help",
        ),
    ],
)
def test_messages(refusal, words: str, message: str) -> None:  # type: ignore[no-untyped-def]
    assert refusal(*words.split()) == message


def test_choices_are_in_the_line(refusal) -> None:  # type: ignore[no-untyped-def]
    text = refusal("import", "model", "x.pth", "--out", "o", "--prior", "uniform")
    assert text.startswith("Missing option '--from'. Choose from: play-fair, trn-pytorch, ")
    text = refusal("import", "model", "--scael", "2")
    assert text.startswith("No such option '--scael'. (Did you mean one of: ")


def test_control_characters_reach_no_terminal(refusal) -> None:  # type: ignore[no-untyped-def]
    assert "\x1b" not in refusal("bench", "--\x1b[31mred\nline")


def test_a_group_without_a_command_shows_its_help_page(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run("import", monkeypatch=monkeypatch, capsys=capsys)
    assert code == 2
    assert (out + err).startswith("Usage: esv import [OPTIONS] COMMAND")
