"""The documentation agrees with the code: commands, options, keys, links, examples, names of files and tests."""

from __future__ import annotations

import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import click
import pytest
import yaml
from pydantic import BaseModel

import esv_ray
from esv_ray.cli import cli
from esv_ray.spec import JobSpec
from esv_ray.spec_extract import ExtractSpec
from esv_ray.spec_kinds import load_work
from esv_ray.spec_train import TrainSpec
from tests.support import cli_reference, python_reference
from tests.support.pages import DOCS, PAGES, ROOT, anchors, blocks, inline_commands, links, page_name, shell_lines

each_page = pytest.mark.parametrize("page", PAGES, ids=page_name)


def command_of(line: str) -> tuple[click.Command, list[str]]:
    """The command that a line calls, and the words after its name."""
    words = shlex.split(line, comments=True)[1:]
    command: click.Command = cli
    while words and isinstance(command, click.Group) and words[0] in command.commands:
        command = command.commands[words.pop(0)]
    return command, words


# --- links and names


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in links(page.read_text()):
        path = page.parent / target if target else page
        assert path.exists(), target
        if anchor:
            assert anchor in anchors(path.read_text()), f"{target}#{anchor}"


def test_the_index_and_the_readme_lead_to_every_page() -> None:
    index = DOCS / "index.md"
    linked = {(index.parent / target).resolve() for target, _ in links(index.read_text())}
    assert {page.resolve() for page in DOCS.rglob("*.md")} - linked == {index.resolve()}
    assert "esv_ray/docs/index.md" in (ROOT / "README.md").read_text()


@each_page
def test_files_that_a_page_names_exist(page: Path) -> None:
    for name in re.findall(r"`((?:esv_ray|jobs|k8s|tests|\.github)/[\w./-]+)`", page.read_text()):
        assert (ROOT / name).exists() or (ROOT / f"{name}.py").exists(), name


@each_page
def test_tests_that_a_page_names_exist(page: Path) -> None:
    modules = {path.stem for path in (ROOT / "tests").rglob("test_*.py")}
    for name in re.findall(r"`(test_\w+)`", page.read_text()):
        assert name in modules, name


@each_page
def test_no_figure_is_left_open(page: Path) -> None:
    assert "BENCH" not in page.read_text()


def test_pages_in_the_code_exist() -> None:
    for module in [*(ROOT / "esv_ray").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]:
        for name in re.findall(r"\bdocs/([\w/-]+\.md)", module.read_text()):
            assert (DOCS / name).exists(), (module, name)


def imports_of(package: str) -> set[str]:
    """What the modules directly in a package import of esv_ray, as `storage/transport`."""
    text = "\n".join(path.read_text() for path in (ROOT / "esv_ray" / package).glob("*.py"))
    dotted = re.findall(r"^ *from esv_ray\.([\w.]+) import", text, flags=re.MULTILINE)
    plain = re.findall(r"^ *from esv_ray import (\w+)", text, flags=re.MULTILINE)
    return {re.sub(r"^spec_\w+", "spec", name).replace(".", "/") for name in dotted + plain}


def test_the_map_says_what_each_package_imports() -> None:
    rows = re.findall(
        r"^\| `([\w/]+)/` \| .+ \| (.+) \|$", (DOCS / "contributing" / "house.md").read_text(), flags=re.M
    )
    packages = {str(init.parent.relative_to(ROOT / "esv_ray")) for init in (ROOT / "esv_ray").glob("*/**/__init__.py")}
    assert {name for name, _ in rows if name not in ("jobs", "k8s", "tests")} == packages
    for package, allowed in rows:
        if "every" in allowed or package not in packages:
            continue
        names = {
            package,
            "errors",
            "estimator",
            "machine",
            "parallel",
            "signals",
            *re.findall(r"`([\w/]+)(?:/\*)?`", allowed),
        }
        for name in imports_of(package):
            shared = (
                package.startswith("core/")
                and name.startswith("core/")
                and name not in packages
                and name.count("/") == 1
            )
            listed = any(f"{name}/".startswith(f"{other}/") for other in names)
            assert shared or listed, f"{package} imports {name}: change that, or its line in contributing/house.md"


# --- commands


@each_page
def test_commands_parse(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each `esv ...` line of a shell block is a complete command; files that an option must find are there."""
    monkeypatch.chdir(tmp_path)
    for line in shell_lines(page.read_text()):
        if not line.startswith("esv "):
            continue
        command, words = command_of(line.partition(" | ")[0])
        for name in words:
            if re.fullmatch(r"[\w-]+\.(json|yaml|csv|pth|hdf)", name):
                Path(name).touch()
        assert not isinstance(command, click.Group), line
        try:
            command.make_context(command.name, list(words))
        except click.ClickException as error:
            raise AssertionError(f"{line}: {error.format_message()}") from None


@each_page
def test_other_programs_are_known(page: Path) -> None:
    """A line of a shell block starts with a program that a test parses, or one that is not ours."""
    theirs = {"aws", "cd", "docker", "export", "git", "kind", "kubectl", "pip", "pre-commit", "python3"}
    theirs |= {"mkdir", "source", "ssh"}
    ours = {"esv", "python", "ruff", "mypy", "lint-imports"}
    for line in shell_lines(page.read_text()):
        program, *words = line.split()
        program = program.removeprefix(".venv/bin/")
        assert program in theirs | ours, line
        if program == "python" and words[:1] == ["-m"]:
            assert find_spec(words[1]), line


@each_page
def test_commands_in_sentences_exist(page: Path) -> None:
    for line in inline_commands(page.read_text()):
        command, words = command_of(line.partition(" | ")[0])
        known = {option for parameter in command.params for option in parameter.opts}
        assert command is not cli, line
        assert {word for word in words if word.startswith("--")} <= known | {"--help"}, line


def test_the_reference_has_every_command_and_option() -> None:
    sections = cli_reference.PAGE.read_text().split("\n## ")
    by_name = {section.partition("\n")[0]: section for section in sections[1:]}
    commands = dict(cli_reference.commands(cli, "esv"))
    assert by_name.keys() == commands.keys()
    for name, command in commands.items():
        for option in command.params:
            if isinstance(option, click.Option):
                assert all(text in by_name[name] for text in option.opts), (name, option.opts)


def test_the_reference_is_generated() -> None:
    assert cli_reference.PAGE.read_text() == cli_reference.page(), f"run: {cli_reference.REGENERATE}"


def test_the_python_reference_is_generated() -> None:
    page = python_reference.page()
    assert python_reference.PAGE.read_text() == page, f"run: {python_reference.REGENERATE}"
    assert all(f"### {name}\n" in page for name in [*esv_ray.__all__, "Explanation", "JobResult"])
    for row in re.findall(r"^\| `.*\|$", page, flags=re.MULTILINE):
        assert all(cell.strip() for cell in row.split("|")[1:-1]), (
            f"an argument or attribute without a description: {row}"
        )


# --- specs


def test_the_reference_of_specs_has_every_key() -> None:
    text = (DOCS / "reference" / "specs.md").read_text()
    job, _, training = text.partition("## Training spec")
    training, _, extraction = training.partition("\n## Extraction spec")
    sections = ((JobSpec, job), (TrainSpec, training), (ExtractSpec, extraction.partition("\n## ")[0]))
    for kind, section in sections:
        cells = re.findall(r"^\| (`.+?) \|", section, flags=re.MULTILINE)
        defaults = {name: field.default for name, field in kind.model_fields.items()}
        groups = {name: type(value) for name, value in defaults.items() if isinstance(value, BaseModel)}
        keys = (defaults.keys() - groups.keys()).union(*(group.model_fields for group in groups.values()))
        assert {name for cell in cells for name in re.findall(r"`(\w+)`", cell)} == keys
        assert all(f"### `{name}`" in section for name in groups)


@each_page
def test_specs_load(page: Path) -> None:
    for block in blocks(page.read_text(), "yaml"):
        load_work(yaml.safe_load(block))


def test_messages_that_the_page_on_trouble_explains_are_in_the_code() -> None:
    text = (DOCS / "howto" / "troubleshoot-clusters.md").read_text().partition("## What Kubernetes")[0]
    code = " ".join(path.read_text() for path in (ROOT / "esv_ray").rglob("*.py"))
    code = re.sub(r'"\s*f?"', "", code)  # a text over several lines
    for message in re.findall(r"^\| `(.+?)` \|", text, flags=re.MULTILINE):
        for part in re.split(r"\.\.\.|\besv-x-1\b|\bx\b|http://|(?<=waiting for) ", message):
            assert part.strip() in code, message


def test_messages_that_the_page_of_questions_answers_are_in_the_code() -> None:
    text = (DOCS / "howto" / "questions.md").read_text()
    code = " ".join(path.read_text() for path in (ROOT / "esv_ray").rglob("*.py"))
    code = re.sub(r'"\s*f?"', "", code)  # a text over several lines
    messages = [
        word for head in re.findall(r"^\*\*(.+?)\*\*", text, flags=re.M) for word in re.findall(r"`(.+?)`", head)
    ]
    assert len(messages) > 5
    for message in messages:
        assert message in code, message
