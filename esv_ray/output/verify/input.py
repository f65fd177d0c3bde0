"""Verification of the plan of an output against the footers of its feature table.

A run.json may name any location. Only files of its `features` location are opened, and only if that location is on a
disk of this machine or on the same kind of store as the output. For any other location the user must name it.
"""

from __future__ import annotations

from collections import Counter

from esv_ray import storage
from esv_ray.errors import DataError, EsvError
from esv_ray.input.files import InputFile, check_unchanged
from esv_ray.input.parquet.opening import read_footer
from esv_ray.output.manifest import Manifest
from esv_ray.parallel import READERS, in_parallel


def input_problems(output: str, manifest: Manifest, features: str | None = None) -> tuple[list[str], list[str]]:
    """Compare the plan with the footers of the input, if it still exists.

    Args:
        output: location of the output.
        manifest: the plan.
        features: location of the feature table that the user gives; None: that of the plan.

    Returns:
        Problems and notes, one line each. A note says what could not be compared.
    """
    try:
        location = features_location(output, manifest, features)
        foreign = [file.url for file in manifest.files if not storage.is_of(location, file.url)]
    except EsvError as error:
        return [], [f"not compared with the input: {error}"]
    if foreign and features is not None:  # the table was moved: the files of the plan have other locations
        return [], [f"not compared with the input: {foreign[0]} in run.json is not a file of {location}"]
    if foreign:
        return [f"{foreign[0]}: in run.json, but not a file of the features {location}; it is not opened"], []
    planned: dict[InputFile, Counter[int]] = {file: Counter() for file in manifest.files}
    for unit in manifest.units:
        for rows in unit.ranges:
            planned[rows.file][rows.row_group] += rows.rows

    def compare(file: InputFile) -> tuple[str | None, str | None]:
        try:
            check_unchanged([file])
            footer = read_footer(file)
        except DataError as error:
            return None, f"not compared with the input: {error}"
        rows = Counter({index: group.rows for index, group in enumerate(footer.groups) if group.rows})
        if rows == planned[file]:
            return None, None
        differ = sorted(index for index in rows.keys() | planned[file].keys() if rows[index] != planned[file][index])
        return (
            f"{file.url}: expected the rows of its row groups in run.json, {rows.total()} in all, got "
            f"{planned[file].total()}; {len(differ)} row groups differ, first {differ[0]}: expected {rows[differ[0]]} "
            f"rows, got {planned[file][differ[0]]}; plan the job again",
            None,
        )

    results = in_parallel(compare, manifest.files, threads=READERS)
    return [problem for problem, _ in results if problem], [note for _, note in results if note]


def features_location(output: str, manifest: Manifest, features: str | None) -> str:
    """Return the location below which the feature table's files may be opened; arguments as for `input_problems`.

    Raises:
        DataError: the location in the plan is not trusted (`check_near`).
    """
    if features is not None:
        return storage.absolute(features)
    location = str(manifest.keys.get("features", manifest.spec["features"]))
    check_near(output, location, "--features")
    return location


def check_near(output: str, location: str, option: str) -> None:
    """Refuse a location that a run.json names, unless it is on a disk of this machine or on the output's kind of store.

    Raises:
        DataError: names the option by which the user can allow it.
    """
    if storage.protocol_of(location) not in ("file", storage.protocol_of(output)):
        raise DataError(f"run.json names {location}; give {option} {location} if you trust that location")
