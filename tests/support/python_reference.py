"""Generate the Python reference from the docstrings of the public functions, of their results and of the errors.

Run ``python -m tests.support.python_reference`` after one of them changes. It rewrites
``esv_ray/docs/reference/python.md``; `tests/test_docs.py` compares the page with the docstrings.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import esv_ray
from esv_ray import errors
from esv_ray.analysis.comparison import Comparison
from esv_ray.core.games.model import VideoModel
from esv_ray.job.result import JobResult
from esv_ray.models.explanation import Contrast, Explanation
from tests.support.pages import DOCS

PAGE = DOCS / "reference" / "python.md"
REGENERATE = "python -m tests.support.python_reference"
RESULTS = {
    Explanation: "explain",
    Contrast: "Explanation.contrast",
    VideoModel: "load_model",
    JobResult: "run",
    Comparison: "compare",
}
"""Classes that the public functions return, and which one does."""

_HEAD = f"""\
# Python reference

<!-- Generated from the docstrings. Do not edit: run `{REGENERATE}`. -->

`import esv_ray` loads neither torch nor Ray; a name is loaded when it is first used. Examples: [Use from
Python](../howto/python.md). Letters such as n, C and D: [Terms](../explanation/terms.md).
"""
_SECTIONS = ("Args", "Attributes", "Returns", "Raises")
_ENTRY = re.compile(r"^(\w[\w, ]*): (.*)$")


def page() -> str:
    """Return the text of the page."""
    functions = {name: getattr(esv_ray, name) for name in sorted(esv_ray.__all__)}
    index = [f"| [`{name}`](#{name}) | {_cell(_summary(function))} |" for name, function in functions.items()]
    index += [f"| [`{kind.__name__}`](#{kind.__name__.lower()}) | {_cell(_summary(kind))} |" for kind in RESULTS]
    parts = [_HEAD, _table("name", "what it does", index), "## Functions"]
    for name, function in functions.items():
        parts += [f"### {name}", _signature(f"esv_ray.{name}", function), *_described(function)]
    parts.append("## Result classes")
    for kind, source in RESULTS.items():
        parts += [f"### {kind.__name__}", f"Returned by `{source}`.", *_of_class(kind)]
    return "\n\n".join([*(part.rstrip("\n") for part in [*parts, "## Errors", *_of_errors()])]) + "\n"


def _of_class(kind: type) -> Iterator[str]:
    """Yield the description of a class: its attributes and properties in one table, and its public methods."""
    own = {name: value for name, value in vars(kind).items() if not name.startswith("_")}
    properties = {n: v for n, v in own.items() if isinstance(v, property | cached_property)}
    text, sections = _parsed(inspect.getdoc(kind) or "")
    yield _escaped(text)
    entries = [*sections.get("Attributes", []), *((name, _summary(value)) for name, value in properties.items())]
    yield _table(
        "attribute", "meaning", [f"| `{name.replace(', ', '`, `')}` | {_cell(meaning)} |" for name, meaning in entries]
    )
    for name, method in own.items():
        if inspect.isfunction(method) and method.__doc__:
            yield f"#### {kind.__name__}.{name}"
            yield _signature(name, method)
            yield from _described(method)


def _of_errors() -> Iterator[str]:
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.EsvError)]
    rows = [f"| `{kind.__name__}` | `{kind.__mro__[1].__name__}` | {_cell(_summary(kind))} |" for kind in kinds]
    yield (
        "In `esv_ray.errors`. Catch `EsvError` for all that the user can fix; wrong arguments may also raise "
        "`ValueError`."
    )
    yield "\n".join(["| error | kind of | meaning |", "|---|---|---|", *rows])


def _described(function: Callable[..., Any]) -> Iterator[str]:
    """Yield the text of a function's docstring, its arguments, what it returns and raises."""
    text, sections = _parsed(inspect.getdoc(function) or "")
    yield _escaped(text)
    if arguments := sections.get("Args"):
        defaults = {name: p.default for name, p in inspect.signature(function).parameters.items()}
        rows = [f"| `{name}` | {_default(defaults[name])} | {_cell(meaning)} |" for name, meaning in arguments]
        yield "\n".join(["| argument | default | meaning |", "|---|---|---|", *rows])
    if returned := sections.get("Returns"):
        yield f"**Returns** {_escaped(returned[0][1])}"
    if raised := sections.get("Raises"):
        yield "**Raises**"
        yield "\n".join(f"- `{name}`: {_escaped(meaning)}" for name, meaning in raised)


def _parsed(doc: str) -> tuple[str, dict[str, list[tuple[str, str]]]]:
    """Return the text of a docstring in Google's style, and the entries (name, meaning) of its sections.

    The entry of `Returns` has no name.
    """
    pattern = rf"^({'|'.join(_SECTIONS)}):\n((?:    .*\n|\n)*)"
    sections: dict[str, list[tuple[str, str]]] = {}
    for name, body in re.findall(pattern, doc + "\n", flags=re.MULTILINE):
        entries: list[tuple[str, str]] = [("", "")] if name == "Returns" else []
        for line in inspect.cleandoc(body).splitlines():
            match = None if name == "Returns" or line.startswith(" ") else _ENTRY.match(line)
            if match:
                entries.append((match[1], match[2]))
            else:
                entries[-1] = entries[-1][0], f"{entries[-1][1]} {line.strip()}".strip()
        sections[name] = entries
    return re.sub(pattern, "", doc + "\n", flags=re.MULTILINE).strip(), sections


def _signature(name: str, function: Callable[..., Any]) -> str:
    """Return a call as code: names and defaults, since the text gives the types."""
    plain = [each for each in inspect.signature(function).parameters.values() if each.name != "self"]
    words = []
    for each in plain:
        if each.kind is each.KEYWORD_ONLY and "*" not in words:
            words.append("*")
        star = "*" if each.kind is each.VAR_POSITIONAL else ""
        default = "" if each.default is each.empty else "=..." if callable(each.default) else f"={each.default!r}"
        words.append(f"{star}{each.name}{default}")
    return f"```text\n{name}({', '.join(words)})\n```"


def _default(value: object) -> str:
    return "required" if value is inspect.Parameter.empty else "-" if callable(value) else f"`{value!r}`"


def _summary(thing: object) -> str:
    return " ".join((inspect.getdoc(thing) or "").partition("\n\n")[0].split())


def _table(first: str, second: str, rows: list[str]) -> str:
    return "\n".join([f"| {first} | {second} |", "|---|---|", *rows])


def _cell(text: str) -> str:
    return _escaped(text).replace("|", "\\|")


def _escaped(text: str) -> str:
    """Return a text of docstrings as Markdown: double backticks become single, and only code keeps stars and angles."""
    parts = re.split(r"(`[^`]*`)", text.replace("``", "`"))
    return "".join(part if part.startswith("`") else part.replace("*", "\\*").replace("<", "&lt;") for part in parts)


def main() -> None:
    """Rewrite the page."""
    PAGE.write_text(page())
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
