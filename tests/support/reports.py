"""Reports of made-up tables and videos, for tests of pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from io import BytesIO

import numpy as np
import pyarrow as pa
from pyarrow import csv

from esv_ray.analysis.facets.finding import Finding
from esv_ray.report.content import ComparisonPart, Fact, Figure, Report, Section, ShownVideo
from esv_ray.report.pictures import figure_of
from esv_ray.show.video import AttributedVideo, ClassEsvs
from tests.support import facet_tables as made

N, CLASSES, VIDEOS = 8, 12, 400
NAMES = made.something_like(CLASSES)
TITLES = {
    "support": "Supporting elements",
    "positions": "Positions",
    "pairs": "Pairs of elements",
    "marginals": "Marginal contributions",
    "contrasts": "Most misled videos",
    "classes": "Classes",
    "confusions": "Confusions",
}


@cache
def tables() -> Mapping[str, pa.Table]:
    """The tables of a report."""
    return made.tables(made.made_up(VIDEOS, N, CLASSES), NAMES)


@cache
def figure(facet: str) -> Figure:
    """The figure of a facet, drawn once for all tests of a process."""
    return figure_of(facet, tables()[facet], names=NAMES)


def section(facet: str, table: pa.Table | None = None) -> Section:
    """A facet in a report."""
    whole = tables()[facet] if table is None else table
    data = BytesIO()
    csv.write_csv(whole, data)
    return Section(
        name=facet,
        title=TITLES.get(facet, facet),
        sentences=[f"{figure(facet).alt[:200]}"],
        reading="",
        figure=figure(facet),
        table=whole.slice(0, 200),
        rows=whole.num_rows,
        csv=data.getvalue(),
        csv_rows=whole.num_rows,
        location=f"s3://bucket/output/analysis/{facet}.parquet",
    )


def video(
    name: str = "video-000001",
    n: int = 8,
    *,
    wrong: bool = True,
    exact: bool = False,
    seed: int = 0,
    names: Sequence[str] = NAMES,
) -> AttributedVideo:
    """A made-up video, whose ESVs add up to its score minus the prior."""
    rng = np.random.default_rng(seed)
    classes = []
    for class_id in (0, 1) if wrong else (0,):
        esv = rng.normal(0.03 if class_id else 0.01, 0.5 / n, n)
        stderr = None if exact else rng.gamma(4, 0.004 / n, n)
        classes.append(ClassEsvs(class_id, names[class_id], 0.08 + float(esv.sum()), 0.08, esv, stderr))
    both = None if exact or not wrong else rng.gamma(4, 0.005 / n, n)
    return AttributedVideo(name, 3 * np.arange(n), 0, 1 if wrong else 0, classes, False, exact, 255, both)


def report(
    facets: Sequence[str] = ("support", "positions", "classes"),
    videos: Sequence[ShownVideo] = (),
    comparison: ComparisonPart | None = None,
) -> Report:
    """A report of some facets and videos."""
    return Report(
        title="ESVs of Something-Something V2, multi-scale TRN",
        notice="This output is unfinished: 20 of 25 units are committed.",
        facts=[
            Fact("Model", "multi-scale, scales 1 to 8, 174 classes"),
            Fact("Data", "s3://bucket/something-something-v2/validation, 24,777 videos"),
            Fact("Estimator", "adjusted, m = 1024, n = 16 elements"),
            Fact("Whole", "20 of 25 units", "warning"),
            Fact("Verified", "all rows are right: largest efficiency gap 3.0e-08", "good"),
            Fact("Failed", "12 videos: 10 have NaN features, 2 are empty", "bad"),
            Fact("Accuracy", "64.2 % (95 %: 63.6 to 64.8 %)"),
        ],
        findings=[
            Finding("support", "4.1 of 8 elements lower the score of the right class (95 %: 4.0 to 4.2).", 0.6),
            Finding("positions", "The last element supports most in 31 % of videos; by chance 12.5 %.", 0.4),
            Finding("classes", "Class “Putting something on the edge of something” needs two elements.", -0.1),
        ],
        sections=[section(facet) for facet in facets],
        videos=list(videos) or some_videos(),
        notes=["No figure of order: the output has no table `order`."],
        comparison=comparison,
        version="0.1.0",
    )


def some_videos() -> list[ShownVideo]:
    """Videos of several lengths, right and wrong, exact and sampled."""
    return [
        ShownVideo(video("video-000001", 8), ["most misled", "worst"]),
        ShownVideo(video("video-000002", 16, seed=1), ["most misled"]),
        ShownVideo(video("video-000003", 16, wrong=False, seed=2), ["best"]),
        ShownVideo(video("video-000004", 64, exact=True, seed=3), ["worst"]),
        ShownVideo(video("video-000005", 300, wrong=False, seed=4), ["most distracted"]),
    ]
