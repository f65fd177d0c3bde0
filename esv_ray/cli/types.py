"""Types of the command line's values: locations, local paths, and numbers in the spellings that specs allow."""

from __future__ import annotations

import os

import click
from click.shell_completion import CompletionItem

from esv_ray.errors import SpecError

LARGEST = 2**63 - 1  # of 64 bits


class Location(click.ParamType):  # type: ignore[type-arg]  # generic in newer click only
    """A location, not empty; a ``file:`` URL is replaced by its path."""

    name = "url"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the location in its usual spelling.

        Raises:
            SpecError: the value is not a location.
        """
        from esv_ray.storage import spelled

        if value == "-":
            raise SpecError(f"{_prefix(param)}expected a location, got '-'; for a file of that name write ./-")
        try:
            return spelled(value)
        except SpecError as error:
            raise SpecError(f"{_prefix(param)}{error}") from None

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Let the shell complete paths of this machine."""
        return [CompletionItem(incomplete, type="file")]


class PriorSource(Location):
    """A source of a class prior."""

    def get_missing_message(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """Say which sources there are."""
        return (
            "Give a CSV with the frequency of each class (header class,prior), labels:TABLE to count the labels of a "
            "feature table, or uniform."
        )


class LocalPath(click.Path):
    """A path on this machine, not empty; a ``file:`` URL is replaced by its path."""

    def convert(
        self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | os.PathLike[str]:
        """Return the path.

        Raises:
            SpecError: the value is empty, or a location elsewhere.
        """
        from esv_ray.storage import local_path

        try:
            return super().convert(local_path(value) if isinstance(value, str) else value, param, ctx)
        except SpecError as error:
            raise SpecError(f"{_prefix(param)}{error}") from None


class Name(click.ParamType):  # type: ignore[type-arg]  # generic in newer click only
    """A text that is not empty."""

    name = "text"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text.

        Raises:
            SpecError: it is empty.
        """
        if not value.strip():
            raise SpecError(f"{_prefix(param)}expected a name, got {value!r}; a variable in it may be empty")
        return value


class Count(click.IntRange):
    """A whole number, in any spelling that a spec allows."""

    name = "integer"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number."""
        return int(super().convert(int(_number(value, integer=True, param=param)), param, ctx))

    def _describe_range(self) -> str:
        """Return the range for the help page; nothing where it is that of 64 bits, or unbounded."""
        bounded = (self.max is not None and self.max < LARGEST) or (self.min is not None and self.min > -LARGEST)
        return super()._describe_range() if bounded else ""


class Real(click.FloatRange):
    """A number, in any spelling that a spec allows."""

    name = "number"

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number."""
        return float(super().convert(_number(value, integer=False, param=param), param, ctx))


class Size(click.ParamType):  # type: ignore[type-arg]  # generic in newer click only
    """A number of bytes, also written as 500MB or 2GB."""

    name = "size"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number of bytes.

        Raises:
            SpecError: the value is no size.
        """
        from esv_ray.spec_values import bytes_or_auto

        try:
            size = (
                int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else bytes_or_auto(value)
            )
        except (SpecError, ValueError):
            size = 0
        if not isinstance(size, int) or size < 1:
            raise SpecError(f"{_prefix(param)}expected a size such as 500MB or 2GB, got {value!r:.80}")
        return size


def _number(value: str | float, *, integer: bool, param: click.Parameter | None) -> float:
    """Return the number that a text means in a spec; a default is a number already.

    Raises:
        SpecError: the text is not a number.
    """
    if not isinstance(value, str):
        return value
    if not value.strip():
        raise SpecError(f"{_prefix(param)}expected a number, got {value!r}; a variable in it may be empty")
    from esv_ray.spec_values import finite, whole_number
    from esv_ray.spec_yaml import read_value

    try:
        return (whole_number if integer else finite)(read_value(value))
    except (SpecError, ValueError) as error:
        raise SpecError(f"{_prefix(param)}{error}") from None


def _prefix(param: click.Parameter | None) -> str:
    """Return the beginning of an error about a parameter: its name as the user wrote it."""
    if param is None:
        return ""
    return f"{param.opts[0] if isinstance(param, click.Option) else param.human_readable_name.strip('[]')}: "


LOCATION, NAME, PRIOR_SOURCE = Location(), Name(), PriorSource()
