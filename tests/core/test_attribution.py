"""ESVs: brute force, the authors' recorded numbers, and Shapley's laws, for every kind of game."""

from __future__ import annotations

import json
from collections.abc import Callable
from math import comb
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from esv_ray.core.attribution import Attribution
from esv_ray.core.exact.attribution import attribute
from esv_ray.core.exact.plan import LatticePlan
from esv_ray.core.games.heads import MlpHead, MultiScale
from esv_ray.core.games.model import VideoModel, characteristic_game, multiscale_model, variable_length_model
from esv_ray.core.games.modules import Average
from esv_ray.core.keyed import derive_key
from esv_ray.core.lattices.lattice import elements_of
from esv_ray.core.lattices.sampling import sampled_lattice
from esv_ray.core.scales import equal_scales
from esv_ray.core.workspace import Workspace
from esv_ray.errors import ModelError
from tests.conftest import REFERENCE, make_heads, make_model, make_prior
from tests.reference.inputs import average_case, multiscale_case
from tests.support.oracle import esv_by_orders, module_game, multiscale_game
from tests.support.plans import lattice_from_subsequences, plan_algorithm1, plan_exact, plan_from_lattices

CPU = torch.device("cpu")
CASES: list[dict[str, Any]] = json.loads((REFERENCE / "play_fair.json").read_text())


def ready(plan: LatticePlan, model: VideoModel) -> LatticePlan:
    return plan.to(model.device, model.dtype)


def exact(model: VideoModel, features: Tensor, **options: Any) -> Attribution:
    plan = ready(plan_exact(features.shape[1], scales=model.scales), model)
    return attribute(model, features, plan, **options)


def random_features(batch: int, n: int, dim: int = 4, seed: int = 0) -> Tensor:
    return torch.randn((batch, n, dim), generator=torch.Generator().manual_seed(seed))


class Recurrent(nn.Module):
    """A head that is no MLP: the order of elements matters, and any length is taken."""

    def __init__(self, dim: int = 4, n_classes: int = 3) -> None:
        super().__init__()
        state = torch.random.get_rng_state()
        torch.manual_seed(5)
        self.inner = nn.GRU(dim, 6, batch_first=True)
        self.outer = nn.Linear(6, n_classes)
        torch.random.set_rng_state(state)

    def forward(self, subsequences: Tensor) -> Tensor:
        return self.outer(4 * self.inner(subsequences)[0][:, -1])  # type: ignore[no-any-return]


class Plain(nn.Module):
    """An MLP head in disguise, which therefore goes through the general path."""

    def __init__(self, head: MlpHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, subsequences: Tensor) -> Tensor:
        return self.head(subsequences)  # type: ignore[no-any-return]


# ---------------------------------------------------------------- recorded by the authors' code


def recorded_model(case: dict[str, Any]) -> tuple[VideoModel, Tensor]:
    sizes = {key: case[key] for key in ("n_elements", "feature_dim", "n_classes")}
    if case["kind"] == "average-exact":
        features, weight, bias, prior = average_case(case["seed"], **sizes)
        scorer = Average(torch.from_numpy(weight), torch.from_numpy(bias), input_relu=True)
        return VideoModel(scorer, torch.from_numpy(prior), sizes["feature_dim"]), torch.from_numpy(features)
    features, layers, prior = multiscale_case(case["seed"], hidden_dim=case["hidden_dim"], n_max=case["n_max"], **sizes)
    heads: dict[int, nn.Module] = {}
    for s, (w1, b1, w2, b2) in enumerate(layers, start=1):
        head = MlpHead(scale=s, feature_dim=sizes["feature_dim"], hidden_dims=[len(b1)], n_classes=len(b2))
        names = ("linears.0.weight", "linears.0.bias", "linears.1.weight", "linears.1.bias")
        head.load_state_dict(dict(zip(names, map(torch.from_numpy, (w1, b1, w2, b2)), strict=True)))
        heads[s] = head
    model = multiscale_model(heads, torch.from_numpy(prior), feature_dim=sizes["feature_dim"])
    return model, torch.from_numpy(features)


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_recorded_numbers(case: dict[str, Any]) -> None:
    model, features = recorded_model(case)
    n, name = case["n_elements"], case["name"]
    recorded = np.load(REFERENCE / "play_fair.npz")
    if case["kind"] == "multiscale-sampled":
        plan = plan_from_lattices(
            [
                lattice_from_subsequences(n, [recorded[f"{name}.subsequences.{it}.{s}"] for s in range(1, n + 1)])
                for it in range(case["iterations"])
            ]
        )
        # Scores recorded are those of the last iteration alone.
        last = attribute(model, features[None], ready(plan_from_lattices(plan.lattices[-1:]), model))
        assert np.abs(last.scores[0].numpy() - recorded[f"{name}.scores"]).max() < 1e-5
    else:
        plan = plan_exact(n, scales=model.scales)
    found = attribute(model, features[None], ready(plan, model))
    assert np.abs(found.esv[0].numpy() - recorded[f"{name}.esv"]).max() < 1e-5
    if found.exact:
        assert np.abs(found.scores[0].numpy() - recorded[f"{name}.scores"]).max() < 1e-5


# ---------------------------------------------------------------- brute force over all orders


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6])
def test_multiscale_is_brute_force(n: int) -> None:
    heads = make_heads()
    model = multiscale_model(heads, make_prior(3), feature_dim=4)
    features = random_features(3, n)
    found = exact(model, features)
    for b in range(3):
        expected = esv_by_orders(multiscale_game(heads, features[b], model.prior), n)
        assert np.abs(found.esv[b].numpy() - expected).max() < 1e-6


def test_heads_of_any_kind_are_brute_force() -> None:
    heads: dict[int, nn.Module] = {1: Recurrent(), 2: make_heads()[2], 3: Recurrent()}
    model = multiscale_model(heads, make_prior(3), feature_dim=4)
    features = random_features(2, 5)
    found = exact(model, features)
    for b in range(2):
        expected = esv_by_orders(multiscale_game(heads, features[b], model.prior), 5)
        assert np.abs(found.esv[b].numpy() - expected).max() < 1e-6


def test_models_of_any_length_are_brute_force() -> None:
    module = Recurrent().eval()
    model = variable_length_model(module, make_prior(3), feature_dim=4)
    features = random_features(2, 5)
    found = exact(model, features)
    for b in range(2):
        expected = esv_by_orders(module_game(module, features[b], model.prior), 5)
        assert np.abs(found.esv[b].numpy() - expected).max() < 1e-6


def test_the_general_path_agrees_with_the_fast_one() -> None:
    heads = make_heads(n_max=4)
    fast = multiscale_model(heads, make_prior(3), feature_dim=4)
    general = multiscale_model({s: Plain(head) for s, head in heads.items()}, make_prior(3), feature_dim=4)
    features = random_features(3, 9)
    assert (exact(fast, features).esv - exact(general, features).esv).abs().max() < 1e-6


def test_deep_heads_with_batch_norm_and_input_relu() -> None:
    torch.manual_seed(1)
    heads: dict[int, nn.Module] = {}
    for s in (1, 2, 3):
        head = MlpHead(
            scale=s, feature_dim=4, hidden_dims=[7, 5], n_classes=3, batch_norm=True, input_relu=True, dropout=0.5
        )
        for norm in head.norms or []:
            assert isinstance(norm, nn.BatchNorm1d)
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2.0)
        heads[s] = head.eval()
    model = multiscale_model(heads, make_prior(3), feature_dim=4)
    features = random_features(2, 5)
    expected = esv_by_orders(multiscale_game(heads, features[1], model.prior), 5)
    assert np.abs(exact(model, features).esv[1].numpy() - expected).max() < 1e-6


# ---------------------------------------------------------------- laws


MODELS: dict[str, Callable[[], VideoModel]] = {
    "multiscale": make_model,
    "average": lambda: VideoModel(
        Average(torch.randn((3, 4), generator=torch.Generator().manual_seed(2)), torch.zeros(3), input_relu=False),
        make_prior(3),
        4,
    ),
    "any length": lambda: variable_length_model(Recurrent(), make_prior(3), feature_dim=4),
}


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("n", [1, 2, 7, 11])
def test_efficiency(kind: str, n: int) -> None:
    model = MODELS[kind]()
    found = exact(model, random_features(2, n))
    gap = found.esv.sum(dim=1) - (found.scores - model.prior.float())
    assert gap.abs().max() < 1e-5
    assert found.scores.sum(dim=1).tolist() == pytest.approx([1, 1], abs=1e-6)


def test_efficiency_of_a_class_that_is_nearly_sure() -> None:
    """Thousands of values near one: their float32 sums all round one way (a gap of 3e-5 without a baseline)."""
    heads = make_heads(gain=6.0, n_max=3)
    for head in heads.values():
        last = head.linears[-1]
        assert isinstance(last, nn.Linear)
        with torch.no_grad():
            last.bias.add_(torch.tensor([9.0, 0.0, 0.0]))
    model = multiscale_model(heads, make_prior(3), feature_dim=4)
    found = exact(model, random_features(1, 15))
    assert (found.esv.sum(dim=1) - (found.scores - model.prior.float())).abs().max() < 5e-6


def test_symmetry() -> None:
    """Elements with equal features in a game that does not see order have equal ESVs."""
    features = random_features(1, 6)
    features[0, 4] = features[0, 1]
    esv = exact(MODELS["average"](), features).esv[0]
    assert (esv[4] - esv[1]).abs().max() < 1e-6
    assert (esv[4] - esv[0]).abs().max() > 1e-3


def glove(positions: Tensor) -> Tensor:
    """Glove game: elements 0 and 1 are left gloves, 2 is a right one, 3 is nothing; a pair is worth one."""
    left = (positions < 2).any(dim=1)
    right = (positions == 2).any(dim=1)
    return (left & right).float()[:, None]


def test_null_element_and_a_known_game() -> None:
    found = attribute(
        characteristic_game(glove, torch.zeros(1)),
        torch.zeros((1, 4, 1)),
        plan_exact(4, scales=None).to(CPU, torch.float32),
    )
    assert found.esv[0, :, 0].tolist() == pytest.approx([1 / 6, 1 / 6, 2 / 3, 0], abs=1e-6)


def test_linearity() -> None:
    def games(positions: Tensor) -> Tensor:
        one = positions.float().sin().sum(dim=1)
        two = positions.float().pow(2).mean(dim=1)
        return torch.stack([one, two, 2 * one - 3 * two], dim=1)

    model = characteristic_game(games, torch.tensor([0.5, 1.0, -2.0]))
    for plan in (plan_exact(7, scales=None), plan_algorithm1(7, m=6, iterations=2, seed=0, scales=None)):
        esv = attribute(model, torch.zeros((1, 7, 1)), ready(plan, model)).esv[0]
        assert (esv[:, 2] - (2 * esv[:, 0] - 3 * esv[:, 1])).abs().max() < 1e-4


@pytest.mark.parametrize("kind", MODELS)
def test_relabelling_of_a_full_lattice_changes_nothing(kind: str) -> None:
    model = MODELS[kind]()
    features = random_features(4, 6)
    labels = torch.stack([torch.randperm(6, generator=torch.Generator().manual_seed(b)) for b in range(4)]).int()
    plain, relabelled = exact(model, features), exact(model, features, relabelling=labels)
    assert (plain.esv - relabelled.esv).abs().max() < 1e-6
    assert (plain.scores - relabelled.scores).abs().max() < 1e-6


@pytest.mark.parametrize("kind", MODELS)
def test_relabelled_sampling_is_sampling_of_the_relabelled_subsequences(kind: str) -> None:
    """Relabelling by p and looking at X is looking at p(X)."""
    model = MODELS[kind]()
    n = 7
    lattice = sampled_lattice(n, m=5, key=derive_key(1), scales_with_elements=n)
    label = torch.randperm(n, generator=torch.Generator().manual_seed(3))
    moved = lattice_from_subsequences(
        n,
        [
            label[elements_of(scale.masks, n, s).long()].sort(dim=1).values.numpy()
            for s, scale in enumerate(lattice.scales, start=1)
        ],
    )
    features = random_features(1, n)
    relabelled = attribute(model, features, ready(plan_from_lattices([lattice]), model), relabelling=label[None].int())
    expected = attribute(model, features, ready(plan_from_lattices([moved]), model))
    assert (relabelled.esv - expected.esv).abs().max() < 1e-6


@pytest.mark.parametrize("kind", MODELS)
def test_sampled_with_everything_is_exact(kind: str) -> None:
    model = MODELS[kind]()
    n = 8
    everything = sampled_lattice(n, m=comb(n, 4), key=derive_key(0), scales_with_elements=n)
    features = random_features(2, n)
    for iterations in (1, 2):
        sampled = attribute(model, features, ready(plan_from_lattices([everything] * iterations), model))
        assert (sampled.esv - exact(model, features).esv).abs().max() < 1e-6


def test_sampling_gets_nearer_with_m_and_iterations() -> None:
    model = make_model(n_max=4)
    features = random_features(8, 12, seed=4)
    truth = exact(model, features).esv

    def error(m: int, iterations: int) -> float:
        plan = ready(plan_algorithm1(12, m=m, iterations=iterations, seed=0, scales=equal_scales(4)), model)
        return float((attribute(model, features, plan).esv - truth).abs().mean() / truth.abs().mean())

    coarse, finer, finest = error(16, 1), error(128, 1), error(128, 8)
    assert coarse > finer > finest
    assert finest < 0.2


def test_standard_errors_come_from_iterations() -> None:
    model = make_model()
    features = random_features(2, 12)
    one = attribute(
        model, features, ready(plan_algorithm1(12, m=30, iterations=1, seed=0, scales=equal_scales(3)), model)
    )
    assert one.stderr is None
    plan = plan_algorithm1(12, m=30, iterations=6, seed=0, scales=equal_scales(3))
    found = attribute(model, features, ready(plan, model))
    alone = torch.stack(
        [attribute(model, features, ready(plan_from_lattices([part]), model)).esv for part in plan.lattices]
    )
    assert found.stderr is not None
    assert (found.stderr - alone.std(dim=0) / 6**0.5).abs().max() < 1e-5
    assert found.evaluations == sum(len(scale) for part in plan.lattices for scale in part.scales[:3])


def test_pooling_weighs_iterations_by_their_counts() -> None:
    """Sums and counts pool over iterations; the mean over iterations of ESVs would be something else."""

    def value(positions: Tensor) -> Tensor:
        return (positions.sum(dim=1, keepdim=True) ** 2).float()

    model = characteristic_game(value, torch.zeros(1))
    singles = [[0], [1], [2]]
    first = lattice_from_subsequences(3, [singles, [[0, 1], [0, 2]], [[0, 1, 2]]])
    second = lattice_from_subsequences(3, [singles, [[1, 2]], [[0, 1, 2]]])
    pooled = attribute(model, torch.zeros((1, 3, 1)), ready(plan_from_lattices([first, second]), model))
    full = attribute(model, torch.zeros((1, 3, 1)), ready(plan_exact(3, scales=None), model))
    assert (pooled.esv - full.esv).abs().max() < 1e-5, "together they hold every subsequence equally often"


# ---------------------------------------------------------------- batches, precision, size


def test_batches_and_working_sets_change_rounding_only() -> None:
    model = make_model(n_max=4)
    features = random_features(7, 9)
    whole = exact(model, features)
    for b in range(7):
        assert (exact(model, features[b : b + 1]).esv[0] - whole.esv[b]).abs().max() < 1e-6
    assert (exact(model, features, workspace=Workspace(CPU, model.dtype, 1)).esv - whole.esv).abs().max() < 1e-6
    assert torch.equal(exact(model, features).esv, whole.esv), "the same call gives the same bits"


@pytest.mark.parametrize("n", [5, 9, 11])
def test_results_hold_no_buffer_that_the_next_batch_overwrites(n: int) -> None:
    model, workspace = make_model(n_max=4), Workspace(CPU, torch.float32)
    first = exact(model, random_features(1, n), workspace=workspace)
    kept = first.esv.clone(), first.scores.clone(), first.gaps.clone()
    exact(model, random_features(1, n, seed=1), workspace=workspace)
    assert all(torch.equal(*pair) for pair in zip(kept, (first.esv, first.scores, first.gaps), strict=True))


def test_double_precision_on_request() -> None:
    single = make_model()
    double = make_model().to(dtype=torch.float64)
    features = random_features(2, 7)
    found = exact(double, features.double())
    assert found.esv.dtype == torch.float64
    assert (found.esv.sum(dim=1) - (found.scores - double.prior)).abs().max() < 1e-14
    assert (found.esv - exact(single, features).esv).abs().max() < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("n", [70, 1000])
def test_long_sequences(n: int) -> None:
    """Several words a mask; an additive game, whose ESVs are its weights whatever is sampled of them."""
    weights = torch.linspace(-1, 1, n)

    def additive(positions: Tensor) -> Tensor:
        return weights[positions].sum(dim=1, keepdim=True) / n

    model = characteristic_game(additive, torch.zeros(1))
    m = 64 if n < 100 else 8
    esv = attribute(
        model, torch.zeros((1, n, 1)), ready(plan_algorithm1(n, m=m, iterations=1, seed=0, scales=None), model)
    ).esv[0, :, 0]
    assert esv.isfinite().all()
    if n < 100:
        assert np.corrcoef(esv.numpy(), weights.numpy())[0, 1] > 0.5
    heads = attribute(
        make_model(n_max=8),
        random_features(1, n),
        plan_algorithm1(n, m=m, iterations=1, seed=0, scales=equal_scales(8)).to(CPU, torch.float32),
    )
    assert heads.esv.shape == (1, n, 3)
    assert heads.esv.isfinite().all()


def test_misuse() -> None:
    model = make_model()
    with pytest.raises(ValueError, match="plan is for 5 elements, got features of 4"):
        attribute(model, random_features(1, 4), ready(plan_exact(5, scales=equal_scales(3)), model))
    with pytest.raises(ModelError, match=r"heads of scales >= 1, got scales \[\]"):
        MultiScale({}, feature_dim=4)
    with pytest.raises(ModelError, match="sum to 1"):
        multiscale_model(make_heads(), torch.tensor([0.5, 0.1, 0.1]), feature_dim=4)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA device")
def test_cuda_agrees_with_the_cpu() -> None:
    model = make_model(n_max=4)
    features = random_features(3, 10)
    here = exact(model, features)
    sampled = plan_algorithm1(10, m=20, iterations=2, seed=0, scales=equal_scales(4))
    here_sampled = attribute(model, features, ready(sampled, model))
    there = make_model(n_max=4).to("cuda")
    found = exact(there, features.cuda())
    assert (found.esv.cpu() - here.esv).abs().max() < 1e-5
    found = attribute(there, features.cuda(), ready(sampled, there))
    assert (found.esv.cpu() - here_sampled.esv).abs().max() < 1e-5
