"""Generate the reference page of the command line from the commands themselves.

Run ``python -m tests.support.cli_reference`` after a command, an option or a help text changes. It rewrites
``esv_ray/docs/reference/cli.md``; `tests/test_docs.py` compares the page with the commands.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import click

from esv_ray.cli import cli

PAGE = Path(__file__).parents[2] / "esv_ray" / "docs" / "reference" / "cli.md"
REGENERATE = "python -m tests.support.cli_reference"

_HEAD = f"""\
# Command line

<!-- Generated from the commands. Do not edit: run `{REGENERATE}`. -->

`esv COMMAND --help` prints the same texts, and `esv --version` the version. [Exit codes](exit-codes.md) apply to every
command.
"""


def commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    """Yield the full name of each command below a group, and the command, in the order of the help."""
    if isinstance(command, click.Group):
        for key, inner in command.commands.items():
            yield from commands(inner, f"{name} {key}")
    else:
        yield name, command


def page() -> str:
    """Return the text of the page."""
    sections = dict(commands(cli, "esv"))
    index = [
        f"| [`{name}`](#{name.replace(' ', '-')}) | {_cell(_summary(found))} |" for name, found in sections.items()
    ]
    parts = [_HEAD, "\n".join(["| command | what it does |", "|---|---|", *index]) + "\n"]
    return "\n".join([*parts, *(_section(name, command) for name, command in sections.items())])


def _summary(command: click.Command) -> str:
    return " ".join(inspect.cleandoc(command.help or "").partition("\n\n")[0].split())


def _section(name: str, command: click.Command) -> str:
    context = click.Context(command, info_name=name)
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    records = [option.get_help_record(context) for option in command.params if isinstance(option, click.Option)]
    rows = [f"| `{_cell(names)}` | {_cell(text)} |" for names, text in filter(None, records)]
    table = "\n".join(["| option | meaning |", "|---|---|", *rows])
    parts = [f"## {name}", f"```text\n{usage}\n```", *_paragraphs(command), *([table] if rows else [])]
    return "\n\n".join(parts) + "\n"


def _paragraphs(command: click.Command) -> Iterator[str]:
    """Yield the help of a command as Markdown; what click prints as it stands (after a ``\\b``) becomes a block."""
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        first, _, rest = paragraph.partition("\n")
        if first != "\b":
            yield _escaped(" ".join(paragraph.split()))
            continue
        title, _, lines = rest.partition("\n")
        if title.endswith(":") and lines:
            yield f"{_escaped(title)}\n\n```text\n{inspect.cleandoc(lines)}\n```"
        else:
            yield f"```text\n{rest}\n```"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _escaped(text: str) -> str:
    return text.replace("*", "\\*").replace("<", "&lt;")


def main() -> None:
    """Rewrite the page."""
    PAGE.write_text(page())
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
