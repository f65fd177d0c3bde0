"""Outputs that tests tamper with, and tables with defects."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from esv_ray.output.verify.output import verify_output


def with_defects(table: pa.Table) -> pa.Table:
    """The table with its second id missing, its third video null, and the fourth without a label."""
    rows = table.to_pylist()
    rows[1]["video_id"], rows[2]["features"], rows[3]["label"] = "", None, None
    return pa.Table.from_pylist(rows, schema=table.schema)


@dataclass(frozen=True)
class Output:
    """A copy of an output, to be tampered with."""

    folder: Path

    def part(self, kind: str, number: int = 0) -> Path:
        return sorted((self.folder / kind).iterdir())[number]

    def problems(self) -> tuple[str, ...]:
        found = verify_output(str(self.folder)).problems
        assert not any("\n" in problem for problem in found)
        return found

    def rewrite(self, kind: str, change: Callable[[pa.Table], pa.Table], number: int = 0) -> None:
        """Change a part's rows and leave its footer, as far as it is ours, as it is."""
        path = self.part(kind, number)
        footer = pq.read_metadata(path).metadata or {}
        table = change(pq.read_table(path))
        pq.write_table(table.replace_schema_metadata({k: v for k, v in footer.items() if k == b"esv_ray"}), path)
        if kind == "attributions":  # a forger who knows of the checksum: what is in the rows must tell
            self.write_footer(number, checksums={"attributions": hashlib.sha256(path.read_bytes()).hexdigest()})

    def write_footer(self, number: int = 0, **values: object) -> None:
        """Change what the mark of a unit says."""
        path = self.part("videos", number)
        found = json.loads(pq.read_metadata(path).metadata[b"esv_ray"])
        pq.write_table(pq.read_table(path).replace_schema_metadata({"esv_ray": json.dumps({**found, **values})}), path)

    def write_counts(self, number: int = 0, **counts: object) -> None:
        """Change the counts in a footer."""
        path = self.part("videos", number)
        found = json.loads(pq.read_metadata(path).metadata[b"esv_ray"])
        self.write_footer(number, counts={**found["counts"], **counts})

    def write_success(self, **counts: int) -> None:
        path = self.folder / "_SUCCESS"
        path.write_text(json.dumps({**json.loads(path.read_text()), **counts}))


def setting(column: str, change: Callable[[list[Any]], list[Any]]) -> Callable[[pa.Table], pa.Table]:
    """A change of the values of one column."""

    def changed(table: pa.Table) -> pa.Table:
        place = table.schema.get_field_index(column)
        field = table.schema.field(place)
        return table.set_column(place, field, pa.array(change(table.column(place).to_pylist()), field.type))

    return changed
