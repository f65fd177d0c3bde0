"""run.json of work that is planned in one file: read, created once, compared. Attribution's is `manifest`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError

from esv_ray import storage
from esv_ray.errors import DataError, JobError
from esv_ray.output.layout import RUN
from esv_ray.output.manifest import checksum_of

_MOST_BYTES = 2**24

_Written = TypeVar("_Written", bound=BaseModel)


@dataclass(frozen=True)
class PlanFile(Generic[_Written]):
    """The run.json of a kind of work.

    Attributes:
        kind: its content: a model with the fields `work`, `keys` and `checksum`.
        work: value of `work`, which tells it from the run.json of other work.
        a_work: the work with its article, for errors: "an extraction".
        output: what a user calls the location: "--out".
    """

    kind: type[_Written]
    work: str
    a_work: str
    output: str

    def read(self, output: str) -> _Written | None:
        """Read run.json; return None if there is none.

        Raises:
            JobError: it is of other work.
            DataError: it is damaged, or the storage refuses.
        """
        url = storage.join(output, RUN)
        if not storage.exists(url):
            return None
        data = storage.read_bytes(url, f"read the plan of the {self.work}", most=_MOST_BYTES)
        try:
            raw = json.loads(data)
            if isinstance(raw, dict) and raw.get("work") != self.work:
                raise JobError(
                    f"{output}: expected {self.a_work}, found the output of other work; use another {self.output}"
                )
            if raw["checksum"] != checksum_of(raw):
                raise ValueError("its checksum does not match its content, so it was changed after it was written")
            return self.kind.model_validate(raw)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            first = error.errors()[0] if isinstance(error, ValidationError) else None
            reason = str(error) if first is None else f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
            raise DataError(
                f"{url}: expected the plan of {self.a_work}, got something else ({' '.join(reason.split())[:200]}); "
                "move it away, then run the same command again: what is committed is kept"
            ) from None

    def commit(self, output: str, written: _Written) -> bool:
        """Create run.json; return False if another driver was first."""
        content = json.loads(written.model_dump_json(exclude={"checksum"}))
        data = json.dumps({**content, "checksum": checksum_of(content)}, indent=1, sort_keys=True) + "\n"
        return storage.commit_new(storage.join(output, RUN), data.encode(), "write the plan", check=True)

    def check_same(self, output: str, before: Mapping[str, object], keys: Mapping[str, object]) -> None:
        """Refuse to continue with other settings.

        Args:
            output: location of the output, for the error.
            before: keys of the plan.
            keys: those of this run.

        Raises:
            JobError: names the keys that differ.
        """
        differ = [key for key in sorted({*before, *keys}) if before.get(key) != keys.get(key)]
        if differ:
            shown = "; ".join(f"{key}: expected {before.get(key)!r:.60}, got {keys.get(key)!r:.60}" for key in differ)
            raise JobError(
                f"{output} holds another {self.work}; {shown}. Use another {self.output}, or the same options to resume"
            )
