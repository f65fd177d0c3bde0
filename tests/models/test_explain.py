"""`esv_ray.explain`: the laws of its results, and what it refuses."""

from __future__ import annotations

import subprocess
import sys
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

import esv_ray
from esv_ray.core.exact import attribution
from esv_ray.core.games.model import VideoModel, characteristic_game, multiscale_model, variable_length_model
from esv_ray.errors import DataError, SpecError
from esv_ray.models.explain import explain
from esv_ray.models.explanation import Explanation
from tests.conftest import make_heads, make_model, make_prior
from tests.support import factories

ROOT = Path(__file__).parents[2]


def sequence(n: int, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((n, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def model() -> VideoModel:
    """D = 4, C = 3, n_max = 3."""
    return make_model()


def same(a: Explanation, b: Explanation) -> bool:
    """Whether two results agree to the last bit."""
    spread = (a.stderr is None) == (b.stderr is None)
    if a.stderr is not None and b.stderr is not None:
        spread = torch.equal(a.stderr, b.stderr)
    return (
        spread
        and torch.equal(a.esv, b.esv)
        and torch.equal(a.scores, b.scores)
        and torch.equal(a.prior, b.prior)
        and (a.evaluations, a.exact) == (b.evaluations, b.exact)
    )


# --- what comes back


@pytest.mark.parametrize("n", [1, 2, 3, 4, 9])
def test_an_exact_result(model: VideoModel, n: int) -> None:
    result = explain(model, sequence(n))
    assert result.esv.shape == (n, 3)
    assert result.stderr is None
    assert result.scores.shape == result.prior.shape == (3,)
    assert {part.dtype for part in (result.esv, result.scores, result.prior)} == {torch.float32}
    assert not any(part.requires_grad for part in (result.esv, result.scores, result.prior))
    assert result.exact is True
    assert result.evaluations == sum(comb(n, s) for s in range(1, min(n, 3) + 1))
    assert torch.allclose(result.prior.double(), make_prior(3), rtol=0, atol=1e-7)
    assert abs(float(result.scores.sum()) - 1) < 1e-6


@pytest.mark.parametrize("n", [1, 2, 5, 8, 12])
@pytest.mark.parametrize("kind", ["multiscale", "variable"])
def test_exact_esvs_add_up_to_scores_less_prior(model: VideoModel, n: int, kind: str) -> None:
    if kind == "variable":
        model = variable_length_model(factories.variable(), make_prior(3), feature_dim=4)
    result = explain(model, sequence(n), estimator="exact")
    assert torch.allclose(result.esv.sum(dim=0), result.scores - result.prior, rtol=0, atol=1e-5)


def test_a_sampled_result(model: VideoModel) -> None:
    result = explain(model, sequence(14), estimator="algorithm1", m=16, iterations=3)
    assert result.esv.shape == (14, 3)
    assert result.exact is False
    assert result.evaluations == 3 * (14 + 16 + 16)
    assert result.stderr is not None
    assert result.stderr.shape == (14, 3)
    assert bool((result.stderr > 0).all())
    assert bool(result.esv.isfinite().all())
    assert not result.stderr.requires_grad


def test_a_single_iteration_has_no_standard_errors(model: VideoModel) -> None:
    result = explain(model, sequence(14), estimator="algorithm1", m=16, iterations=1)
    assert result.stderr is None
    assert result.exact is False


def test_sampling_is_closer_the_more_is_sampled(model: VideoModel) -> None:
    features = sequence(12)
    exact = explain(model, features, estimator="exact").esv
    errors = [
        float((explain(model, features, estimator="algorithm1", m=m, iterations=4).esv - exact).abs().mean())
        for m in (8, 128)
    ]
    assert errors[1] < errors[0] / 2


def test_everything_sampled_is_exact(model: VideoModel) -> None:
    features = sequence(6)
    result = explain(model, features, estimator="algorithm1", m=comb(6, 3), iterations=3)
    assert result.exact
    assert torch.equal(result.esv, explain(model, features, estimator="exact").esv)


def test_auto_is_exact_where_short_and_samples_where_long(model: VideoModel) -> None:
    assert explain(model, sequence(8)).exact
    assert explain(model, sequence(8), m=4, iterations=1).exact is False
    long = explain(model, sequence(40), m=32, iterations=2)
    assert long.exact is False
    assert long.esv.shape == (40, 3)
    assert long.stderr is not None
    assert long.evaluations == 40 + 64 + 64


# --- what goes in


@pytest.mark.parametrize(
    "given",
    [
        lambda x: torch.from_numpy(x),
        lambda x: x.astype(np.float64),
        lambda x: torch.from_numpy(x).double(),
        lambda x: np.asfortranarray(x),
        lambda x: np.repeat(x, 2, axis=0)[::2],
        lambda x: torch.from_numpy(x).requires_grad_(),
    ],
    ids=["tensor", "float64", "double tensor", "Fortran order", "strided", "with gradient"],
)
def test_arrays_and_tensors_are_one(model: VideoModel, given: Any) -> None:
    assert same(explain(model, given(sequence(5))), explain(model, sequence(5)))


@pytest.mark.parametrize("dtype", [np.float16, np.int64])
def test_other_numbers_are_converted(model: VideoModel, dtype: type[np.generic]) -> None:
    features = (4 * sequence(5)).astype(dtype)
    assert same(explain(model, features), explain(model, features.astype(np.float32)))


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
@pytest.mark.parametrize(
    "given",
    [
        pytest.param(lambda x: np.broadcast_to(x[0], x.shape), id="read-only"),
        pytest.param(lambda x: x[::-1], id="reversed"),
        pytest.param(lambda x: x.astype(">f4"), id="big endian"),
    ],
)
def test_any_float_array_is_taken(model: VideoModel, given: Any) -> None:
    features = given(sequence(5))
    copied = np.array(features, dtype=np.float32, order="C")
    assert same(explain(model, features), explain(model, copied))


def test_the_features_are_left_as_they_are(model: VideoModel) -> None:
    features = torch.from_numpy(sequence(14))
    before = features.clone()
    explain(model, features)
    explain(model, [features, features[:5]], m=8, iterations=2)
    assert torch.equal(features, before)


def test_a_list_of_mixed_lengths_keeps_its_order(model: VideoModel) -> None:
    given: list[Tensor | npt.NDArray[np.floating]] = [
        sequence(n, seed=i) for i, n in enumerate([5, 1, 14, 5, 2, 14, 5])
    ]
    given[3] = torch.from_numpy(sequence(5, seed=3))
    results = explain(model, given, estimator="algorithm1", m=16, iterations=2)
    assert [len(result.esv) for result in results] == [5, 1, 14, 5, 2, 14, 5]
    for index, (features, result) in enumerate(zip(given, results, strict=True)):
        alone = explain(model, features, estimator="algorithm1", m=16, iterations=2, video_id=str(index))
        assert torch.allclose(result.esv, alone.esv, rtol=0, atol=1e-6)
        assert torch.allclose(result.scores, alone.scores, rtol=0, atol=1e-6)
        assert (result.exact, result.evaluations) == (alone.exact, alone.evaluations)
        assert (result.stderr is None) == (alone.stderr is None)


@pytest.mark.parametrize("estimator", ["exact", "algorithm1"])
def test_one_by_one_a_list_has_the_bits_of_single_sequences(model: VideoModel, estimator: Any) -> None:
    given = [sequence(n, seed=i) for i, n in enumerate([9, 3, 9, 1, 9])]
    ids = ["a", "b", "c", "d", "e"]
    options: dict[str, Any] = {"estimator": estimator, "m": 16, "iterations": 2, "seed": 7}
    results = explain(model, given, video_ids=ids, batch=1, **options)
    for features, video_id, result in zip(given, ids, results, strict=True):
        assert same(result, explain(model, features, video_id=video_id, **options))


def test_lists_of_none_and_of_one(model: VideoModel) -> None:
    assert explain(model, []) == []
    (result,) = explain(model, (sequence(5),))
    assert same(result, explain(model, sequence(5)))


# --- precision


@pytest.mark.parametrize("estimator", ["exact", "algorithm1"])
def test_float64_agrees_with_float32(estimator: Any) -> None:
    options: dict[str, Any] = {"estimator": estimator, "m": 32, "iterations": 2, "video_id": "x"}
    single = explain(make_model(), sequence(11), **options)
    double = explain(make_model().to(dtype=torch.float64), sequence(11), **options)
    assert {part.dtype for part in (double.esv, double.scores, double.prior)} == {torch.float64}
    assert (double.stderr is None) == (estimator == "exact")
    assert torch.allclose(double.esv, single.esv.double(), rtol=0, atol=1e-5)
    assert torch.allclose(double.scores, single.scores.double(), rtol=0, atol=1e-5)
    assert not torch.equal(double.esv, single.esv.double())
    if estimator == "exact":
        assert torch.allclose(double.esv.sum(dim=0), double.scores - double.prior, rtol=0, atol=1e-12)


def test_a_result_may_be_changed_without_harm() -> None:
    model = make_model().to(dtype=torch.float64)
    first, second = explain(model, [sequence(5), sequence(5, seed=1)])
    before = second.prior.clone()
    first.prior.zero_()
    first.esv.zero_()
    assert bool((second.esv != 0).all())
    assert torch.equal(second.prior, before)
    assert torch.equal(model.prior, make_prior(3))


# --- what fixes a sampled result


def test_seed_and_id_fix_what_is_sampled(model: VideoModel) -> None:
    def run(**options: Any) -> Explanation:
        return explain(model, sequence(14), estimator="algorithm1", m=16, iterations=2, **options)

    result = run(seed=3, video_id="a")
    assert same(run(seed=3, video_id="a"), result)
    for other in ({"seed": 3, "video_id": "b"}, {"seed": 4, "video_id": "a"}, {"seed": 3}):
        different = run(**other)
        assert not torch.equal(different.esv, result.esv)


def test_ids_do_not_matter_where_exact(model: VideoModel) -> None:
    assert same(
        explain(model, sequence(6), seed=1, video_id="a", estimator="exact"),
        explain(model, sequence(6), seed=2, video_id="b", estimator="exact"),
    )


def test_a_list_is_named_by_its_positions_or_as_told(model: VideoModel) -> None:
    features = sequence(14)
    options: dict[str, Any] = {"estimator": "algorithm1", "m": 16, "iterations": 2, "batch": 1}
    first, second = explain(model, [features, features], **options)
    assert not torch.equal(first.esv, second.esv)
    twice = explain(model, [features, features], video_ids=["1", "1"], **options)
    assert same(twice[0], second)
    assert same(twice[1], second)


def test_the_caller_s_random_numbers_and_threads_are_left_alone(model: VideoModel) -> None:
    torch.manual_seed(0)
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    first = explain(model, sequence(14), m=16)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    torch.manual_seed(1)
    assert same(explain(model, sequence(14), m=16), first)


# --- what is refused


@pytest.mark.parametrize(
    ("features", "parts"),
    [
        (np.ones((3, 5)), ("(n, 4)", "(3, 5)")),
        (np.ones((0, 4)), ("n >= 1", "(0, 4)")),
        (np.ones(4), ("(n, 4)", "(4,)")),
        (np.ones((2, 3, 4, 1)), ("(n, 4)", "(2, 3, 4, 1)")),
        (torch.tensor(1.0), ("(n, 4)", "()")),
        (np.full((2, 4), np.nan), ("finite", "NaN")),
        (torch.full((2, 4), -torch.inf), ("finite", "infinity")),
        (np.full((2, 4), 1e300), ("finite", "infinity")),
        pytest.param(
            np.full((2, 4), "a"),
            (),
        ),
        pytest.param(
            np.full((2, 4), None),
            (),
        ),
        pytest.param(
            np.full((2, 4), 1j),
            (),
            marks=[pytest.mark.filterwarnings("ignore:Casting complex")],
        ),
    ],
)
def test_features_that_are_none_are_refused(model: VideoModel, features: Any, parts: tuple[str, ...]) -> None:
    for given, where in ((features, "sequence 0"), ([sequence(3), features], "sequence 1")):
        with pytest.raises(DataError) as caught:
            explain(model, given)
        text = str(caught.value)
        assert text.splitlines() == [text]
        assert where in text
        assert all(part in text for part in parts), text


@pytest.mark.parametrize("n", [31, 40, 100])
def test_exact_is_refused_where_it_cannot_be_had(model: VideoModel, n: int) -> None:
    with pytest.raises(SpecError) as caught:
        explain(model, sequence(n), estimator="exact")
    text = str(caught.value)
    assert text.splitlines() == [text]
    assert f"n = {n} elements" in text
    assert f"2^{n} - 1 subsequences" in text
    assert "B of memory" in text
    assert "the largest n that fits is " in text
    assert "sample frames" in text
    assert "adjusted or auto" in text


@pytest.mark.slow
def test_memory_is_that_which_is_given(model: VideoModel) -> None:
    features = sequence(12)
    with pytest.raises(SpecError) as caught:
        explain(model, features, estimator="exact", memory_budget=100_000)
    assert "only 100 kB is available" in str(caught.value)
    largest = int(str(caught.value).partition("the largest n that fits is ")[2].partition(":")[0])
    assert 4 <= largest < 12
    assert explain(model, features[:largest], estimator="exact", memory_budget=100_000).exact
    with pytest.raises(SpecError):
        explain(model, features[: largest + 1], estimator="exact", memory_budget=100_000)
    assert explain(model, sequence(40), m=8, memory_budget=10**7).exact is False


def test_one_sequence_too_long_refuses_the_list_before_anything_is_computed(model: VideoModel) -> None:
    with pytest.raises(SpecError, match="n = 40"):
        explain(model, [sequence(10), sequence(40)], estimator="exact")


def test_advice_is_not_what_was_asked_for(model: VideoModel) -> None:
    with pytest.raises(SpecError) as caught:
        explain(model, sequence(32), estimator="algorithm1", m=10**9)
    assert "smaller m" in str(caught.value) or "algorithm1" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"estimator": "shapley"}, ("estimator", "auto, exact, algorithm1 or adjusted", "'shapley'")),
        ({"m": 0}, ("m = 0",)),
        ({"iterations": 0}, ("iterations = 0",)),
    ],
)
def test_estimators_that_are_none_are_refused(model: VideoModel, options: Any, parts: tuple[str, ...]) -> None:
    with pytest.raises(SpecError) as caught:
        explain(model, sequence(4), **options)
    assert str(caught.value).splitlines() == [str(caught.value)]
    assert all(part in str(caught.value) for part in parts)


def test_a_tolerance_is_met_or_given_up(model: VideoModel) -> None:
    options: dict[str, Any] = {"estimator": "adjusted", "m": 20, "iterations": 1}
    once = explain(model, sequence(12), **options)
    met = explain(model, sequence(12), **options, tolerance=0.03)
    assert (once.iterations, once.tolerance_met) == (1, None)
    assert (met.iterations > 1, met.tolerance_met) == (True, True)
    assert met.evaluations > once.evaluations
    for explanation, kept in ((once, False), (met, True)):
        assert explanation.stderr is not None
        best = int(explanation.scores.argmax())
        assert bool(explanation.stderr[:, best].mean() <= 0.03 * explanation.esv[:, best].abs().mean()) == kept
    given_up = explain(model, sequence(12), **options, tolerance=1e-6, max_iterations=2)
    assert (given_up.iterations, given_up.tolerance_met) == (2, False)
    with pytest.raises(SpecError, match="a tolerance above 0, a share of the ESVs"):
        explain(model, sequence(12), **options, tolerance=0.0)


@pytest.mark.parametrize(
    "options",
    [
        {"video_ids": ["a"]},
        {"output": "odds"},
        {"max_iterations": 2.5},
        {"tolerance": "0.05"},
        {"tolerance": True},
        pytest.param(
            {"batch": 0},
        ),
        pytest.param(
            {"batch": -1},
        ),
        pytest.param(
            {"m": 8.5, "estimator": "algorithm1"},
        ),
        pytest.param(
            {"video_id": "a"},
        ),
    ],
)
def test_misuse_is_told(model: VideoModel, options: Any) -> None:
    with pytest.raises((ValueError, SpecError)):
        explain(model, [sequence(14), sequence(14)], **options)


# --- without Ray

WITHOUT_RAY = """
import sys
import esv_ray
assert not {"ray", "torch"} & set(sys.modules), "import esv_ray is light"

class NoRay:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "ray":
            raise ImportError("there is no ray here")

sys.meta_path.insert(0, NoRay())
try:
    import ray
except ImportError:
    pass
else:
    raise AssertionError("the finder does not find")
import numpy as np
model = esv_ray.load_model(sys.argv[1])
result = esv_ray.explain(model, np.random.default_rng(0).standard_normal((14, 4)), m=16, video_id="x")
print(result.exact, tuple(result.esv.shape), "ray" in sys.modules)
"""


@pytest.mark.slow
def test_explaining_needs_no_ray(bundle: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_RAY, bundle], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[0] == "False (14, 3) False"


# --- values that are not sense


def large(gain: float) -> VideoModel:
    """The small model with its last layers times `gain`."""
    heads = make_heads()
    with torch.no_grad():
        for head in heads.values():
            for parameter in head.linears[-1].parameters():
                parameter.mul_(gain)
    return multiscale_model(heads, make_prior(3), feature_dim=4)


@pytest.mark.parametrize("gain", [1e4, 1e15, 1e30])
@pytest.mark.parametrize("kind", ["adjusted", "algorithm1"])
def test_standard_errors_of_probabilities_are_at_most_1_and_of_logits_finite(kind: Any, gain: float) -> None:
    """They were 1e10, infinite and NaN."""
    options: Any = {"estimator": kind, "m": 16, "iterations": 2}
    for seed in range(3):
        of = explain(large(gain), sequence(10, seed), **options)
        assert of.stderr is not None
        assert bool(((of.stderr >= 0) & (of.stderr <= 1)).all())
        difference = of.contrast(0, 1).stderr
        assert difference is not None
        assert bool(((difference >= 0) & (difference <= 2)).all())
        of = explain(large(gain), sequence(10, seed), output="logit", **options)
        assert of.stderr is not None
        assert bool((of.stderr > 0).all())
        small = explain(large(1.0), sequence(10, seed), output="logit", **options)
        assert small.stderr is not None
        # Linear in the logits: only what is squared was out of float32's range.
        shares = of.stderr.double() / gain / small.stderr.double()
        assert float((shares.median() - 1).abs()) < 0.2


def test_values_that_are_not_finite_are_refused() -> None:
    with pytest.raises(DataError, match="sequence 1: the model's scores are not finite: features or weights are too"):
        explain(make_model(), [sequence(3), 3e38 * np.sign(sequence(3))])


def test_values_out_of_their_range_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a job: whatever an estimator did wrong."""
    real = attribution.attribute

    def wrong(*args: Any, **options: Any) -> Any:
        computed = real(*args, **options)
        computed.esv[:, 0] += 0.25
        return computed

    monkeypatch.setattr("esv_ray.core.exact.plan.attribute", wrong)
    with pytest.raises(DataError, match=r"sequence 0: ESVs miss efficiency: sum and score - prior differ by 0\.25"):
        explain(make_model(), sequence(3))


def test_games_of_any_values_are_not_held_to_probabilities() -> None:
    def game(positions: Tensor) -> Tensor:
        return 1e6 * positions.float().sum(dim=1, keepdim=True) ** 2

    result = explain(characteristic_game(game, torch.zeros(1)), np.zeros((5, 1), np.float32), estimator="exact")
    assert float(result.esv.sum()) == pytest.approx(1e8, rel=1e-6)


def test_a_game_of_element_positions_is_a_public_model() -> None:
    """The glove game: one left glove (element 0) and two right ones; a pair is worth 1."""

    def worth(positions: Tensor) -> Tensor:
        left, right = (positions == 0).any(dim=1), (positions > 0).any(dim=1)
        return (left & right).float()[:, None]

    game = esv_ray.characteristic_game(worth, torch.zeros(1))
    result = explain(game, np.zeros((3, 1), np.float32), estimator="exact")
    assert result.esv[:, 0].tolist() == pytest.approx([2 / 3, 1 / 6, 1 / 6])
