"""Coverage of the intervals of `adjusted` for models of growing confidence: standard errors against exact ESVs.

    python -m esv_ray.bench.coverage
    python -m esv_ray.bench.coverage -n 12 -m 256 --model esv-demo/model --features esv-demo/data/test.parquet

The logits of a model (without --model, of random heads) are multiplied by each factor, which makes it more confident
and leaves its predictions as they are. Every video is sampled under several names and seeds, which changes the sample.
Shares are over all videos, names, seeds, elements and classes. The values of all subsequences are needed: n <= 16.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from esv_ray.bench.faithfulness import read_cases
from esv_ray.bench.setting import Dimensions, random_model
from esv_ray.core.attribution import Extras
from esv_ray.core.engine import Engine
from esv_ray.core.games.heads import GatherHead, MultiScale
from esv_ray.core.games.model import VideoModel
from esv_ray.errors import EsvError, ModelError
from esv_ray.estimator import Estimator
from esv_ray.machine import spare_memory
from esv_ray.models.bundle import load_model

FACTORS = (1.0, 3.0, 10.0, 30.0, 100.0, 1e3, 1e4)
_RANDOM = Dimensions(feature_dim=12, hidden=32, n_classes=6, n_max=8)
_MOST = 16  # elements: exact ESVs with the values of all subsequences
_INTERVAL = 1.959964  # standard errors on either side that hold 95 % of a normal distribution


@dataclass(frozen=True)
class Covered:
    """Estimates of one model with intervals, compared with exact ESVs.

    Attributes:
        share: share of exact values in the nominal 95 % intervals.
        predicted: the same, of the predicted class of each video.
        least_class: the same, of the class where it is least.
        largest: the same, of the element of each video and class with the largest |ESV|.
        error: root mean square error.
        stderr: root mean square standard error.
        own: correlation of an element's standard error with its root mean square error, each over the mean of its
            class, over the elements of the predicted classes; NaN if standard errors do not differ.
    """

    share: float
    predicted: float
    least_class: float
    largest: float
    error: float
    stderr: float
    own: float


@dataclass(frozen=True, eq=False)
class Truth:
    """Exact results of B videos.

    Attributes:
        features: (B, n, D).
        esv: (B, n, C).
        predicted: (B,) classes.
        sharpness: mean largest probability of subsequences.
    """

    features: Tensor
    esv: Tensor
    predicted: Tensor
    sharpness: float


def sharpened(model: VideoModel, factor: float) -> VideoModel:
    """Return a copy of a model whose logits are multiplied by a factor.

    Raises:
        ModelError: it has no MLP heads.
    """
    scorer = deepcopy(model.scorer)
    heads = list(scorer.heads.values()) if isinstance(scorer, MultiScale) else []
    if not heads or not all(isinstance(head, GatherHead) for head in heads):
        raise ModelError("model: expected heads that are MLPs, whose last layer can be multiplied; choose another one")
    for head in heads:
        assert isinstance(head, GatherHead)
        names = (f"weight_{head.n_rest - 1}", f"bias_{head.n_rest - 1}") if head.n_rest else ("first", "first_bias")
        for name in names:
            head.get_buffer(name).mul_(factor)
    return replace(model, scorer=scorer, digest="")


def truth_of(model: VideoModel, features: Tensor) -> Truth:
    """Compute the exact ESVs of features (B, n, D), and how sure the model is of subsequences."""
    batch, n, _ = features.shape
    engine = Engine(model, Estimator("exact"), memory_budget=spare_memory(model.device), extras=Extras(values=True))
    esv, predicted = features.new_zeros((batch, n, model.n_classes)), torch.zeros(batch, dtype=torch.int64)
    largest = 0.0
    for indices, result in engine.attributions([n] * batch, [str(i) for i in range(batch)], features.__getitem__):
        assert result.values is not None, "the engine returns what is asked for"
        esv[indices], predicted[indices] = result.esv, result.scores.argmax(dim=1)
        largest += sum(float(part[..., : model.n_classes].amax(dim=-1).double().sum()) for part in result.values)
    return Truth(features, esv, predicted, largest / batch / (2**n - 1))


def cover(model: VideoModel, truth: Truth, m: int, *, names: int, seeds: int) -> Covered | None:
    """Compare estimates from m subsequences per length with exact ESVs; None if these are exact themselves."""
    batch, n, _ = truth.features.shape
    ids = [f"{video} {name}" for name in range(names) for video in range(batch)]
    estimates, stderrs = [], []
    for seed in range(seeds):
        engine = Engine(model, Estimator("adjusted", m, 1, seed), memory_budget=spare_memory(model.device))
        esv = truth.esv.new_zeros((len(ids), n, model.n_classes))
        stderr = torch.zeros_like(esv)
        for indices, result in engine.attributions(
            [n] * len(ids), ids, lambda some: truth.features[[index % batch for index in some]]
        ):
            if result.stderr is None:
                return None
            esv[indices], stderr[indices] = result.esv, result.stderr
        estimates.append(esv.view(names, batch, n, -1))
        stderrs.append(stderr.view(names, batch, n, -1))
    return _covered(truth, torch.cat(estimates).double(), torch.cat(stderrs).double())


def _covered(truth: Truth, estimates: Tensor, stderr: Tensor) -> Covered:
    """Compare estimates (S, B, n, C) and their standard errors with exact ESVs."""
    errors = estimates - truth.esv
    inside = (errors.abs() <= _INTERVAL * stderr).double()
    predicted = truth.predicted[None, :, None, None].expand(*inside.shape[:3], 1)
    largest = truth.esv.abs().argmax(dim=1, keepdim=True).expand(len(inside), -1, -1, -1)
    of_elements = [
        part.square().mean(dim=0).take_along_dim(truth.predicted[:, None, None], dim=2)[..., 0].sqrt()
        for part in (errors, stderr)
    ]  # (B, n) each
    relative = torch.stack([(part / part.mean(dim=1, keepdim=True)).flatten() for part in of_elements])
    return Covered(
        share=float(inside.mean()),
        predicted=float(inside.gather(3, predicted).mean()),
        least_class=float(inside.mean(dim=(0, 1, 2)).min()),
        largest=float(inside.gather(2, largest).mean()),
        error=float(errors.square().mean().sqrt()),
        stderr=float(stderr.square().mean().sqrt()),
        own=float(torch.corrcoef(relative)[0, 1]),
    )


def main(arguments: list[str] | None = None) -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        prog="python -m esv_ray.bench.coverage",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-n", type=int, action="append", help="elements; may be repeated (default: 8, 12, 16)")
    parser.add_argument("-m", type=int, action="append", help="may be repeated (default: 32, 64, 256)")
    parser.add_argument("--factor", type=float, action="append", help="may be repeated (default: 1 to 10000)")
    parser.add_argument("--videos", type=int, default=10, help="most videos (default: 10)")
    parser.add_argument("--names", type=int, default=5, help="names of each video (default: 5)")
    parser.add_argument("--seeds", type=int, default=4, help="seeds of the sample (default: 4)")
    parser.add_argument("--model", help="location of a bundle, and --features of a table (default: random heads)")
    parser.add_argument("--features", help="feature table of the bundle")
    options = parser.parse_args(arguments)
    lengths, rows, factors = options.n or [8, 12, 16], options.m or [32, 64, 256], options.factor or list(FACTORS)
    if not 2 <= min(lengths) <= max(lengths) <= _MOST or min(rows) < 16 or min(factors) <= 0:
        parser.error(
            f"expected -n of 2 to {_MOST}, -m of 16 or more (fewer give no standard errors), and factors above 0"
        )
    if min(options.videos, options.names, options.seeds) < 1:
        parser.error("expected --videos, --names and --seeds of 1 or more")
    if (options.model is None) != (options.features is None):
        parser.error("expected both --model and --features, or none of them")
    try:
        for line in _lines(options, lengths, rows, factors):
            print(line, flush=True)
    except EsvError as error:
        parser.exit(2, f"error: {error}\n")


def _lines(options: argparse.Namespace, lengths: list[int], rows: list[int], factors: list[float]) -> Iterator[str]:
    """Yield the lines of the table."""
    base = random_model(_RANDOM) if options.model is None else load_model(options.model)
    yield (
        f"{'n':>3} {'factor':>7} {'sharpness':>9} {'m':>5} {'cover':>7} {'pred.':>7} {'class':>7} {'largest':>7} "
        f"{'error':>9} {'stderr':>9} {'own':>5}"
    )
    for n in lengths:
        if options.model is None:
            generator = torch.Generator().manual_seed(n)
            features = 2 * torch.randn((options.videos, n, _RANDOM.feature_dim), generator=generator)
        else:
            features = read_cases(options.features, base, n, options.videos)[0].features
        for factor in factors:
            model = sharpened(base, factor)
            truth = truth_of(model, features)
            for m in rows:
                found = cover(model, truth, m, names=options.names, seeds=options.seeds)
                start = f"{n:3} {factor:7g} {truth.sharpness:9.3f} {m:5}"
                yield f"{start}   exact" if found is None else start + _cells(found)
    yield (
        "cover: share of exact ESVs in 95 % intervals; pred.: of the predicted class; class: of the class where it is "
        "least; largest: of the element with the largest |ESV|; error, stderr: root mean squares; own: correlation of "
        "elements' errors and standard errors"
    )


def _cells(found: Covered) -> str:
    shares = (found.share, found.predicted, found.least_class, found.largest)
    return (
        "".join(f" {100 * share:5.1f} %" for share in shares)
        + f" {found.error:9.1e} {found.stderr:9.1e} {found.own:5.2f}"
    )


if __name__ == "__main__":
    main()
