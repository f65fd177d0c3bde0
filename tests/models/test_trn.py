"""Published TRNs and TSNs: F is the expectation of their random forward pass."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

from esv_ray.cli import cli
from esv_ray.core.games.model import VideoModel
from esv_ray.core.scales import Scales
from esv_ray.errors import ModelError
from esv_ray.models.bundle import load_model
from esv_ray.models.explain import explain
from esv_ray.models.sources.configuration import extraction_of
from esv_ray.models.sources.importing import BundleRequest, import_bundles
from esv_ray.models.sources.trn import read_trn
from esv_ray.output.verify.output import verify_output
from tests.conftest import make_table
from tests.support.slow import slow_unless

D, BOTTLENECK, HIDDEN, C = 7, 5, 6, 4


def mlp(inputs: int, classes: int = C) -> nn.Sequential:
    return nn.Sequential(nn.ReLU(), nn.Linear(inputs, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, classes))


class Relations(nn.Module):
    """The layers of a multi-scale relation network, written from its description."""

    def __init__(self, segments: int) -> None:
        super().__init__()
        self.segments = segments
        self.fc_fusion_scales = nn.ModuleList(mlp(s * BOTTLENECK) for s in range(segments, 1, -1))

    def forward(self, elements: Tensor, random: np.random.Generator) -> Tensor:
        """Logits (C,) of (N, bottleneck): the longest relation, and three random ones of every other scale."""
        total = self.fc_fusion_scales[0](elements.flatten())
        for number, s in enumerate(range(self.segments - 1, 1, -1), start=1):
            every = list(combinations(range(self.segments), s))
            for index in random.choice(len(every), min(3, len(every)), replace=False):
                total = total + self.fc_fusion_scales[number](elements[list(every[index])].flatten())
        return total  # type: ignore[no-any-return]


class Relation(nn.Module):
    """The layers of a relation network of one scale."""

    def __init__(self, segments: int) -> None:
        super().__init__()
        self.classifier = mlp(segments * BOTTLENECK)


class TrnPytorch(nn.Module):
    def __init__(self, segments: int, consensus: type[nn.Module] = Relations) -> None:
        super().__init__()
        torch.manual_seed(segments)
        self.base_model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))
        self.new_fc = nn.Linear(D, BOTTLENECK)
        self.consensus = consensus(segments)


class Mmaction2(nn.Module):
    def __init__(self, segments: int | None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Sequential(nn.Conv2d(3, 2, 1))
        self.cls_head = nn.Module()
        self.cls_head.fc_cls = nn.Linear(D, C if segments is None else BOTTLENECK)
        if segments is not None:
            self.cls_head.consensus = Relations(segments)


@pytest.fixture
def prior(tmp_path: Path) -> str:
    (tmp_path / "prior.csv").write_text("class,prior\n0,0.4\n1,0.3\n2,0.2\n3,0.1\n")
    return str(tmp_path / "prior.csv")


def imported(state: object, tmp_path: Path, prior: str, source: str = "trn-pytorch", **options: str) -> VideoModel:
    torch.save(state, tmp_path / "model.pth.tar")
    out = str(tmp_path / "bundle")
    read = read_trn(str(tmp_path / "model.pth.tar"), source=source, **options)  # type: ignore[arg-type]
    import_bundles(read, [BundleRequest(out, prior)])
    return load_model(out)


def logits(model: VideoModel, features: Tensor) -> Tensor:
    return explain(model, features, estimator="exact", output="logit").scores


@pytest.mark.parametrize("segments", slow_unless(lambda segments: segments < 5, [2, 3, 5, 8]))
@pytest.mark.parametrize("combine", ["sum", "mean"])
def test_f_is_the_expectation_of_the_published_forward_pass(
    segments: int, combine: str, tmp_path: Path, prior: str
) -> None:
    published = TrnPytorch(segments)
    state = {f"module.{name}": tensor for name, tensor in published.state_dict().items()}
    model = imported({"epoch": 3, "arch": "BNInception", "state_dict": state}, tmp_path, prior, combine=combine)
    assert (model.feature_dim, model.n_max) == (D, segments)
    features = torch.randn((segments, D), generator=torch.Generator().manual_seed(1))
    random = np.random.default_rng(0)
    with torch.no_grad():
        elements = published.new_fc(features)
        draws = torch.stack([published.consensus(elements, random) for _ in range(2000)])
    error = draws.std(dim=0) / len(draws) ** 0.5
    assert ((draws.mean(dim=0) - logits(model, features)).abs() <= 4.5 * error + 1e-5).all()


def test_of_a_shorter_subsequence_the_mean_keeps_the_size_of_the_logits(tmp_path: Path, prior: str) -> None:
    published = TrnPytorch(5)
    added = imported(published.state_dict(), tmp_path, prior)
    (tmp_path / "mean").mkdir()
    mean = imported(published.state_dict(), tmp_path / "mean", prior, combine="mean")
    weights = {2: 3.0, 3: 3.0, 4: 3.0, 5: 1.0}
    assert added.scales == Scales((0, 3, 3, 3, 1), "sum")
    features = torch.randn((3, D), generator=torch.Generator().manual_seed(1))
    total, counted = sum(weights.values()), weights[2] + weights[3]
    assert torch.allclose(logits(mean, features), logits(added, features) * total / counted, atol=1e-4)
    one = explain(added, features[:1], estimator="exact")
    assert torch.allclose(one.scores.double(), torch.tensor([0.4, 0.3, 0.2, 0.1]).double()), "no relation is that short"


def test_one_relation_is_a_head_at_its_scale_only(tmp_path: Path, prior: str) -> None:
    published = TrnPytorch(4, Relation)
    model = imported({"state_dict": published.state_dict()}, tmp_path, prior)
    assert model.scales == Scales((0, 0, 0, 1), "sum")
    features = torch.randn((4, D), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = published.consensus.get_submodule("classifier")(published.new_fc(features).flatten())
    assert torch.allclose(logits(model, features), expected, atol=1e-5)


def test_mmaction2(tmp_path: Path, prior: str) -> None:
    features = torch.randn((5, D), generator=torch.Generator().manual_seed(1))
    trn = Mmaction2(5)
    model = imported({"meta": {"epoch": 1}, "state_dict": trn.state_dict()}, tmp_path, prior, "mmaction2")
    assert model.scales == Scales((0, 3, 3, 3, 1), "sum")
    (tmp_path / "tsn").mkdir()
    tsn = Mmaction2(None)
    model = imported({"state_dict": tsn.state_dict()}, tmp_path / "tsn", prior, "mmaction2")
    with torch.no_grad():
        assert torch.allclose(
            logits(model, features), tsn.cls_head.get_submodule("fc_cls")(features).mean(dim=0), atol=1e-6
        )


def test_mmaction2_over_probabilities(tmp_path: Path, prior: str) -> None:
    """A TSN with ``average_clips="prob"``."""
    features = torch.randn((5, D), generator=torch.Generator().manual_seed(1))
    tsn = Mmaction2(None)
    model = imported(tsn.state_dict(), tmp_path, prior, "mmaction2", over="probabilities")
    with torch.no_grad():
        expected = tsn.cls_head.get_submodule("fc_cls")(features).softmax(dim=1).mean(dim=0)
    assert torch.allclose(explain(model, features).scores, expected, atol=1e-6)
    (tmp_path / "trn").mkdir()
    with pytest.raises(ModelError, match="expected a TSN for a mean over probabilities, got a TRN"):
        imported(Mmaction2(3).state_dict(), tmp_path / "trn", prior, "mmaction2", over="probabilities")


CONFIGURATION = """
model = dict(type='Recognizer2D', cls_head=dict(type='TSNHead', average_clips='prob'),
    data_preprocessor=dict(type='ActionDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]))
train_pipeline = [dict(type='Normalize', to_bgr=False)]
test_pipeline = [dict(type='CenterCrop', crop_size=224)]
__import__('os').system('false')
"""


def test_what_frames_must_be_like_is_kept(tmp_path: Path, prior: str) -> None:
    """From the text of the configuration, which is not run; it is no part of the model's hash."""
    tsn = Mmaction2(None)
    torch.save({"meta": {"cfg": CONFIGURATION}, "state_dict": tsn.state_dict()}, tmp_path / "tsn.pth")
    words = ["import", "model", "--from", "mmaction2", "--prior", prior, "--out", str(tmp_path / "m")]
    done = CliRunner().invoke(cli, [*words, str(tmp_path / "tsn.pth")])
    assert done.exit_code == 0, (done.output, done.exception)
    assert "frames   mean [123.675, 116.28, 103.53], std [58.395, 57.12, 57.375], color RGB, size 224" in done.output
    assert "the configuration in the file averages probabilities: --over probabilities does that" in done.output
    kept = json.loads((tmp_path / "m" / "model.json").read_text())["extraction"]
    assert kept == {
        "mean": [123.675, 116.28, 103.53],
        "std": [58.395, 57.12, 57.375],
        "color": "RGB",
        "size": 224,
    }
    without_text = imported(tsn.state_dict(), tmp_path, prior, "mmaction2")
    assert load_model(str(tmp_path / "m")).digest == without_text.digest
    over = CliRunner().invoke(
        cli, [*words[:-1], str(tmp_path / "p"), "--over", "probabilities", str(tmp_path / "tsn.pth")]
    )
    assert "averages probabilities" not in over.output


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("mean=[1, 2, 3]; mean=[4, 5, 6]; std=[1]", {"std": [1.0]}),
        ("mean=[m, 2]; crop_size=224; crop_size=256", None),
        ("to_bgr=True", {"color": "BGR"}),
        ("mean=[" * 100_000, None),
        ("mean=[" + "1," * 300_000, None),
        ("mean=[1" + " " * 1_000_000, None),
    ],
    ids=range(7),
)
def test_configurations(text: str, expected: object) -> None:
    assert extraction_of(text) == expected


def without(state: dict[str, Tensor], *names: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if name not in names}


STATE = TrnPytorch(3).state_dict()
RELATION = "consensus.fc_fusion_scales"
FEW = {f"{RELATION}.1.3.weight": torch.zeros(3, 6), f"{RELATION}.1.3.bias": torch.zeros(3)}


@pytest.mark.parametrize(
    ("state", "part"),
    [
        ({"fc.weight": torch.zeros(4, 7)}, "expected keys new_fc.weight/bias"),
        (without(STATE, "new_fc.weight"), "expected new_fc.weight (bottleneck, D) and new_fc.bias"),
        (without(STATE, "new_fc.bias"), "and new_fc.bias (bottleneck,), got"),
        (without(STATE, f"{RELATION}.0.1.weight"), "relation 0: expected linear layers at places 1 and 3"),
        ({name: tensor for name, tensor in STATE.items() if f"{RELATION}.0." not in name}, "relation 0: expected"),
        ({name: tensor for name, tensor in STATE.items() if "consensus" not in name}, "got new_fc alone"),
        ({**STATE, f"{RELATION}.0.5.weight": torch.zeros(4, 4)}, "relation 0: expected linear layers at places"),
        ({**STATE, "consensus.attention.weight": torch.zeros(4, 4)}, "further layers may change F"),
        ({**STATE, "consensus.classifier.1.weight": torch.zeros(6, 15)}, "of several scales, or of one; got both"),
        (
            {**STATE, f"{RELATION}.0.1.weight": torch.zeros(6, 16)},
            "of every scale N, N - 1, ..., 2, with s x 5 inputs at scale s, got [16, 10] inputs",
        ),
        ({name: tensor for name, tensor in STATE.items() if f"{RELATION}.1." not in name}, "of every scale N, N - 1"),
        ({**STATE, f"{RELATION}.0.1.weight": torch.zeros(3)}, "relation 0: expected two linear layers"),
        ({**STATE, f"{RELATION}.1.3.bias": torch.zeros(3)}, "relation 1: expected two linear layers"),
        ({**STATE, f"{RELATION}.1.1.weight": torch.zeros(6, 15)}, "got [15, 15] inputs"),
        (
            {**STATE, f"{RELATION}.1.3.weight": torch.zeros(3, 6), f"{RELATION}.1.3.bias": torch.zeros(3)},
            "4 classes, got 3",
        ),
        ({**STATE, "new_fc.weight": torch.full((5, 7), torch.nan)}, "finite"),
        ({**STATE, **{f"other.{name}": tensor for name, tensor in STATE.items()}}, "expected the tensors of one model"),
    ],
    ids=range(17),
)
def test_other_files_are_refused(state: dict[str, Tensor], part: str, tmp_path: Path, prior: str) -> None:
    with pytest.raises(ModelError) as caught:
        imported(state, tmp_path, prior)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "bundle").exists()


def test_the_command_says_what_it_found(tmp_path: Path, prior: str) -> None:
    published = TrnPytorch(4)
    torch.save({"state_dict": published.state_dict()}, tmp_path / "trn.pth.tar")
    arguments = ["import", "model", "--from", "trn-pytorch", "--prior", prior, "--out", str(tmp_path / "m")]
    done = CliRunner().invoke(cli, [*arguments, str(tmp_path / "trn.pth.tar")])
    assert done.exit_code == 0, done.output
    assert "TRN of 4 segments: relations of scales 2 to 4, bottleneck 5, D = 7, C = 4" in done.output
    assert "3 f^2 + 3 f^3 + 1 f^4" in done.output
    assert "base_model.* (7 tensors)" in done.output
    twice = CliRunner().invoke(cli, [*arguments, "a.pth", "b.pth"])
    assert twice.exit_code == 2
    assert "expected one checkpoint of trn-pytorch" in twice.output


def priors(tmp_path: Path, sizes: dict[str, int]) -> list[str]:
    options = []
    for name, size in sizes.items():
        rows = [f"{index},{1 / size}" for index in range(size)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["class,prior", *rows]) + "\n")
        options += ["--prior", f"{name}={tmp_path / name}.csv"]
    return options


def test_a_model_that_answers_two_questions_becomes_two(tmp_path: Path) -> None:
    """EPIC-Kitchens: Lightning's checkpoint, one vector of verbs and nouns."""
    torch.manual_seed(0)
    published = TrnPytorch(3)
    for relation in published.consensus.get_submodule("fc_fusion_scales").children():
        assert isinstance(relation, nn.Sequential)
        relation[3] = nn.Linear(HIDDEN, 7)
    state = {f"model.{name}": tensor for name, tensor in published.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 5, "global_step": 7, "hyper_parameters": {}}, tmp_path / "epic.ckpt")
    arguments = [
        "import",
        "model",
        "--from",
        "epic-kitchens",
        "--out",
        str(tmp_path / "epic"),
        str(tmp_path / "epic.ckpt"),
    ]
    outputs = ["--outputs", "verbs=0:3", "--outputs", "nouns=3:7"]
    done = CliRunner().invoke(cli, [*arguments, *outputs, *priors(tmp_path, {"verbs": 3, "nouns": 4})])
    assert done.exit_code == 0, done.output
    features = torch.randn((3, D), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        elements = published.new_fc(features)
        longest, pairs = published.consensus.get_submodule("fc_fusion_scales").children()
        chosen = [elements[list(pair)].flatten() for pair in combinations(range(3), 2)]
        expected = longest(elements.flatten()) + 3 * torch.stack([pairs(pair) for pair in chosen]).mean(dim=0)
    both = [logits(load_model(str(tmp_path / "epic" / name)), features) for name in ("verbs", "nouns")]
    assert torch.allclose(torch.cat(both), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--outputs", "verbs=3:3"], "FROM below TO"),
        (["--outputs", "../verbs=0:3"], "expected a NAME of letters"),
        (["--outputs", "verbs=0:3", "--outputs", "verbs=3:4"], "verbs twice"),
        (["--outputs", "verbs=0:3"], "expected --prior NAME=... with NAME of verbs, got 'other=x.csv'"),
        (
            ["--outputs", "a=0:1", "--outputs", "b=1:4", "--prior", "a=uniform"],
            "expected --prior b=SOURCE for the output",
        ),
        (["--outputs", "a=0:9", "--prior", "a={prior}"], "expected columns of 4 outputs, got 0:9"),
        (
            ["--outputs", "a=0:3", "--prior", "a={prior}"],
            "a prior of 3 classes, one for each output of the model",
        ),
        (["--prior", "{prior}", "--prior", "{prior}"], "expected --prior once"),
        (["--outputs", "a=0:4", "--prior", "a={prior}", "--prior", "a={prior}"], "--prior a=... once"),
    ],
)
def test_wrong_outputs_are_refused(options: list[str], part: str, tmp_path: Path, prior: str) -> None:
    torch.save(TrnPytorch(3).state_dict(), tmp_path / "trn.pth")
    words = [option.format(prior=prior) for option in options]
    if "--prior" not in words:
        words += ["--prior", "other=x.csv"]
    arguments = ["import", "model", "--from", "trn-pytorch", "--out", str(tmp_path / "m"), str(tmp_path / "trn.pth")]
    done = CliRunner().invoke(cli, [*arguments, *words])
    assert done.exit_code != 0
    assert part in f"{done.output} {done.exception}"


@pytest.mark.slow
@pytest.mark.parametrize("output", ["probability", "logit"])
@pytest.mark.parametrize("consensus", [Relations, Relation])
def test_a_job_over_videos_of_any_length(consensus: type[nn.Module], output: str, tmp_path: Path, prior: str) -> None:
    """Planned, attributed, verified and summarized, also videos that are shorter than every relation."""
    torch.save(TrnPytorch(4, consensus).state_dict(), tmp_path / "trn.pth")
    read = read_trn(str(tmp_path / "trn.pth"), source="trn-pytorch")
    import_bundles(read, [BundleRequest(str(tmp_path / "m"), prior)])
    pq.write_table(make_table([1, 2, 3, 4, 5, 9, 1, 30], feature_dim=D, n_classes=C), tmp_path / "f.parquet")
    words = [
        "--features",
        str(tmp_path / "f.parquet"),
        "--model",
        str(tmp_path / "m"),
        "--output",
        str(tmp_path / "out"),
    ]
    words += ["--set", "cluster.actors=0", "--set", f"estimator.output={output}", "--set", "estimator.m=30"]
    for command in (["plan", *words, "--read-lengths"], ["attribute", *words], ["analyze", str(tmp_path / "out")]):
        done = CliRunner().invoke(cli, command)
        assert done.exit_code == 0, done.output
    assert verify_output(str(tmp_path / "out")).problems == ()
    videos = pq.read_table(tmp_path / "out" / "videos").to_pylist()
    shortest = 2 if consensus is Relations else 4
    for video in videos:
        assert (video["evaluations"] == 0) == (video["n_elements"] < shortest)
        assert video["exact"] or video["n_elements"] == 30
