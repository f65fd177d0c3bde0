"""Batches of units, and the tables of a batch that facets query.

A video's rows lie in the files of one unit. So an output of any size is read in batches of units, one after the other,
and in each batch joins and groups are small.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import duckdb

from esv_ray.analysis.agreement import add_agreements
from esv_ray.analysis.analyzed import Analyzed
from esv_ray.analysis.database import add_tables
from esv_ray.analysis.moments import read_moments
from esv_ray.errors import DataError
from esv_ray.output.layout import ATTRIBUTIONS, VIDEOS

_MOST_ELEMENTS = 2**19  # elements of the sequences of a batch; with their class's ESVs and errors some 25 MB

_EXPLAINED = """
CREATE OR REPLACE TEMP TABLE explained AS
SELECT video_id, n_elements, label, predicted, v.{explained} AS class, label = predicted AS correct, prior,
  scores[v.{explained} + 1]::DOUBLE AS probability
FROM videos AS v JOIN priors ON priors.class = v.{explained}
WHERE status = 'ok'
"""
_SEQUENCES = """
CREATE OR REPLACE TEMP TABLE sequences AS
SELECT video_id, n_elements, class, any_value(label) AS label, any_value(predicted) AS predicted,
  any_value(correct) AS correct, any_value(prior) AS prior,
  {score} AS score, list(esv::DOUBLE ORDER BY element) AS esv, list(stderr::DOUBLE ORDER BY element) AS stderr
FROM explained JOIN attributions USING (video_id, n_elements, class)
WHERE method = 'esv'
GROUP BY video_id, n_elements, class
"""
_SCORE = {False: "any_value(probability)", True: "any_value(prior) + sum(esv::DOUBLE)"}  # tables hold probabilities
_WRONG = """
CREATE OR REPLACE TEMP TABLE wrong AS
SELECT video_id, n_elements, label, predicted, {errors} AS errors
FROM videos WHERE status = 'ok' AND label <> predicted
"""
_DIFFERENCES = """
CREATE OR REPLACE TEMP TABLE differences AS
SELECT video_id, n_elements, label, predicted, element, a.frame_index, a.esv AS esv_label, b.esv AS esv_predicted,
  a.esv::DOUBLE - b.esv AS difference, errors[element + 1]::DOUBLE AS stderr
FROM wrong
JOIN attributions AS a USING (video_id, n_elements)
JOIN attributions AS b USING (video_id, n_elements, element)
WHERE a.class = label AND b.class = predicted AND a.method = 'esv' AND b.method = 'esv'
ORDER BY video_id, n_elements, element
"""
_UNEVEN = "SELECT video_id FROM sequences WHERE len(esv) <> n_elements LIMIT 1"

NEEDS: Mapping[str, tuple[str, ...]] = {
    "explained": (VIDEOS,),
    "sequences": ("explained", VIDEOS, ATTRIBUTIONS),
    "wrong": (VIDEOS,),
    "differences": ("wrong", VIDEOS, ATTRIBUTIONS),
    "agreements": ("explained", VIDEOS, ATTRIBUTIONS),
    "moments": (),
}
"""Tables of a batch, in the order in which they are made, with what each is made of.

- `explained`: videos and lengths with a class to explain: its prior and probability.
- `sequences`: those whose ESVs of that class are kept: score, and the lists esv and stderr, by element.
- `wrong`: misclassified videos.
- `differences`: their elements: ESV of the label minus that of the predicted class.
- `agreements`: correlations of the values of each two methods within a video.
- `moments`: key moments of videos, from the feature table.
"""


def batches_of(analyzed: Analyzed) -> Iterator[Sequence[str]]:
    """Yield the file names of the units of each batch; the same output gives the same batches."""
    per_row = max(1.0, analyzed.census.elements / max(1, analyzed.rows))
    committed = set(analyzed.units)
    batch: list[str] = []
    elements = 0.0
    for unit in analyzed.manifest.units:
        if unit.name not in committed:
            continue
        if batch and elements + unit.rows * per_row > _MOST_ELEMENTS:
            yield batch
            batch, elements = [], 0.0
        batch.append(unit.name)
        elements += unit.rows * per_row
    yield batch


def load_batch(
    con: duckdb.DuckDBPyConnection, analyzed: Analyzed, names: Sequence[str], uses: Sequence[str], reads: Sequence[str]
) -> None:
    """Make the tables of a batch, in place of those of the one before.

    Args:
        con: with the tables of `add_priors`.
        analyzed: the output.
        names: file names of the units.
        uses: tables of `NEEDS`.
        reads: tables of the job.

    Raises:
        DataError: a file cannot be read, or a video has more or fewer rows than elements.
    """
    made = [name for name in NEEDS if any(name == use or name in NEEDS[use] for use in uses)]
    folders = dict.fromkeys([*reads, *(each for name in made for each in NEEDS[name] if each not in NEEDS)])
    add_tables(con, analyzed.output, names, list(folders))
    columns = {row[0] for row in con.execute("DESCRIBE videos").fetchall()} if "wrong" in made else set()
    errors = "stderr_difference" if "stderr_difference" in columns else "NULL::FLOAT[]"  # earlier versions had none
    queries = {
        "explained": _EXPLAINED.format(explained=analyzed.explained),
        "sequences": _SEQUENCES.format(score=_SCORE[analyzed.in_logits]),
        "wrong": _WRONG.format(errors=errors),
        "differences": _DIFFERENCES,
    }
    for name in made:
        if name == "moments":
            chosen = frozenset(names)
            moments = read_moments(analyzed.manifest, [u for u in analyzed.manifest.units if u.name in chosen])
            con.register("esv_moments", moments)
            con.execute("CREATE OR REPLACE TEMP TABLE moments AS SELECT * FROM esv_moments")
            con.unregister("esv_moments")
        elif name == "agreements":
            add_agreements(con, analyzed.output)
        else:
            con.execute(queries[name])
    if "sequences" in made:
        uneven = con.execute(_UNEVEN).fetchall()
        if uneven:
            raise DataError(
                f"{analyzed.output}: expected one ESV per element, got more or fewer for video {uneven[0][0]!r:.100}; "
                f"see esv verify {analyzed.output}"
            )
