"""Names of the columns of a feature table in a spec: the key `columns` of jobs and trainings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

from pydantic import (
    BaseModel,
    ConfigDict,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from esv_ray.errors import SpecError
from esv_ray.spec_text import describe_error
from esv_ray.spec_values import Text


class ColumnNames(BaseModel):
    """The names under which a feature table holds its columns; a column without a name here has its own.

    It is written as the names that differ only, so that a spec without other names is the same as ever.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    video_id: Text | None = None
    features: Text | None = None
    label: Text | None = None
    frame_index: Text | None = None

    @field_validator("*")
    @classmethod
    def _other(cls, name: str | None, info: ValidationInfo) -> str | None:
        return None if name == info.field_name else name

    @model_validator(mode="after")
    def _check(self) -> Self:
        keys: dict[str, str] = {}
        for key in COLUMNS:
            name = self.name_of(key)
            other = keys.setdefault(name, key)
            if other != key:
                raise ValueError(f"expected another column for each key, got {name!r:.80} for {other} and for {key}")
        return self

    @model_serializer
    def _given(self) -> dict[str, str]:
        return {key: name for key in COLUMNS if (name := getattr(self, key)) is not None}

    def name_of(self, key: str) -> str:
        """Return the name under which the table holds a column."""
        return getattr(self, key) or key

    def is_given(self, key: str) -> bool:
        """Return whether a column has another name than its own."""
        return getattr(self, key) is not None

    def shown(self, key: str) -> str:
        """Return the name of a column for a message, with the key that gives it."""
        return f"{self.name_of(key)!r:.80} (columns.{key})" if self.is_given(key) else key


COLUMNS = ("video_id", "features", "label", "frame_index")
"""The columns of a feature table, by their own names."""
OWN_NAMES = ColumnNames()
"""Every column under its own name."""


def read_columns(pairs: Iterable[str], option: str) -> ColumnNames:
    """Read names of columns that a command takes as ``KEY=NAME``.

    Args:
        pairs: one text per column.
        option: of the command, for errors.

    Raises:
        SpecError: a text is malformed, a key is unknown, or a name is invalid or given twice.
    """
    values: dict[str, str] = {}
    for pair in pairs:
        key, equals, name = pair.partition("=")
        if not equals or key in values:
            expected = "each key once" if equals else "KEY=NAME, such as features=embedding"
            raise SpecError(f"{option}: expected {expected}, got {pair!r:.100}")
        values[key] = name
    try:
        return ColumnNames.model_validate(values)
    except ValidationError as error:
        raise SpecError(f"{option}: {describe_error(ColumnNames, error.errors()[0])}") from None
