"""Published pooled models, made of modules written from their descriptions: F is their forward pass."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn
from torch.nn import functional as F

from esv_ray.cli import cli
from esv_ray.core.games.pooled import CosinePooling
from esv_ray.models.bundle import load_model
from esv_ray.models.explain import explain
from esv_ray.models.manifest import PoolingManifest
from esv_ray.models.saving import save_pooled
from esv_ray.models.sources.pooled import imported_pooled
from tests.support.oracle import esv_by_orders, module_game
from tests.support.pooled import drawn

D, C = 6, 3


class Abmil(nn.Module):
    """Attention over instances, behind convolutions that the features replace."""

    def __init__(self, *, gated: bool, classes: int = 1, weights: str = "attention_w") -> None:
        super().__init__()
        self.feature_extractor_part1 = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2))
        self.feature_extractor_part2 = nn.Sequential(nn.Linear(D, 5), nn.ReLU())
        self.gated, self.weights = gated, weights
        if gated:
            self.attention_V = nn.Sequential(nn.Linear(5, 4), nn.Tanh())
            self.attention_U = nn.Sequential(nn.Linear(5, 4), nn.Sigmoid())
            setattr(self, weights, nn.Linear(4, 2))
        else:
            self.attention = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 1))
        self.classifier = nn.Sequential(nn.Linear(5 * (2 if gated else 1), classes), nn.Sigmoid())

    def forward(self, bags: Tensor) -> Tensor:
        held = self.feature_extractor_part2(bags)
        if self.gated:
            logits = getattr(self, self.weights)(self.attention_V(held) * self.attention_U(held))
        else:
            logits = self.attention(held)
        means = torch.einsum("nsk,nsh->nkh", logits.softmax(dim=1), held).flatten(1)
        if self.classifier[0].out_features == 1:
            positive = self.classifier(means)
            return torch.cat([1 - positive, positive], dim=1).log()
        return self.classifier[0](means)  # type: ignore[no-any-return]


class GatedAttention(nn.Module):
    def __init__(self, branches: int) -> None:
        super().__init__()
        self.attention_a = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Dropout(0.25))
        self.attention_b = nn.Sequential(nn.Linear(5, 4), nn.Sigmoid(), nn.Dropout(0.25))
        self.attention_c = nn.Linear(4, branches)

    def forward(self, held: Tensor) -> Tensor:
        return self.attention_c(self.attention_a(held) * self.attention_b(held))  # type: ignore[no-any-return]


class PlainAttention(nn.Module):
    def __init__(self, branches: int, *, dropout: bool) -> None:
        super().__init__()
        last = [nn.Dropout(0.25)] if dropout else []
        self.module = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), *last, nn.Linear(4, branches))

    def forward(self, held: Tensor) -> Tensor:
        return self.module(held)  # type: ignore[no-any-return]


class Clam(nn.Module):
    def __init__(self, attention: Callable[[int], nn.Module], *, branches: bool, dropout: bool) -> None:
        super().__init__()
        last = [nn.Dropout(0.25)] if dropout else []
        network = attention(C if branches else 1)
        self.attention_net = nn.Sequential(nn.Linear(D, 5), nn.ReLU(), *last, network)
        self.classifiers = nn.ModuleList(nn.Linear(5, 1) for _ in range(C)) if branches else nn.Linear(5, C)
        self.instance_classifiers = nn.ModuleList(nn.Linear(5, 2) for _ in range(C))

    def forward(self, bags: Tensor) -> Tensor:
        held = self.attention_net[:-1](bags)
        means = torch.einsum("nsk,nsh->nkh", self.attention_net[-1](held).softmax(dim=1), held)
        if isinstance(self.classifiers, nn.ModuleList):
            return torch.cat([classify(means[:, c]) for c, classify in enumerate(self.classifiers)], dim=1)
        return self.classifiers(means[:, 0])  # type: ignore[no-any-return]


class CrossAttention(nn.Module):
    def __init__(self, *, proj: bool, bias: bool) -> None:
        super().__init__()
        self.q = nn.Linear(D, D, bias=bias)
        self.kv = nn.Linear(D, 2 * D, bias=bias)
        self.proj = nn.Linear(D, D) if proj else nn.Identity()

    def forward(self, query: Tensor, elements: Tensor) -> Tensor:
        count, s, _ = elements.shape
        keys, values = self.kv(elements).reshape(count, s, 2, 2, D // 2).permute(2, 0, 3, 1, 4)
        queries = self.q(query).reshape(count, 1, 2, D // 2).permute(0, 2, 1, 3)
        out = F.scaled_dot_product_attention(queries, keys, values)
        return self.proj(out.transpose(1, 2).reshape(count, 1, D))  # type: ignore[no-any-return]


class CrossAttentionBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(D), nn.LayerNorm(D)
        self.xattn = CrossAttention(proj=True, bias=True)
        self.mlp = nn.Module()
        self.mlp.fc1, self.mlp.fc2 = nn.Linear(D, 9), nn.Linear(9, D)

    def forward(self, query: Tensor, elements: Tensor) -> Tensor:
        query = query + self.xattn(query, self.norm1(elements))
        inner: Tensor = self.mlp.fc2(F.gelu(self.mlp.fc1(self.norm2(query))))  # type: ignore[operator]
        return query + inner


class Probe(nn.Module):
    """An attentive probe of two attention heads."""

    def __init__(self, block: nn.Module, queries: int = 1) -> None:
        super().__init__()
        self.pooler = nn.Module()
        self.pooler.query_tokens = nn.Parameter(torch.zeros(1, queries, D))
        self.pooler.cross_attention_block = block
        self.linear = nn.Linear(D, C)

    def forward(self, elements: Tensor) -> Tensor:
        tokens = self.pooler.query_tokens
        assert isinstance(tokens, Tensor)
        out = self.pooler.cross_attention_block(tokens.repeat(len(elements), 1, 1), elements)  # type: ignore[operator]
        return self.linear(out[:, 0])  # type: ignore[no-any-return]


def prior_of(folder: Path, classes: int) -> tuple[str, Tensor]:
    prior = torch.arange(1, classes + 1, dtype=torch.float64) / (classes * (classes + 1) / 2)
    path = folder / "prior.csv"
    path.write_text("class,prior\n" + "".join(f"{c},{p}\n" for c, p in enumerate(prior.tolist())))
    return str(path), prior


def run(folder: Path, source: str, content: object, *options: str, classes: int = C) -> tuple[int, str]:
    """Import a checkpoint by the command; return its exit code and output."""
    torch.save(content, folder / "model.pth")
    prior, _ = prior_of(folder, classes)
    arguments = ["import", "model", "--from", source, "--out", str(folder / "bundle"), "--prior", prior, *options]
    result = CliRunner().invoke(cli, [*arguments, str(folder / "model.pth")])
    return result.exit_code, result.output + (str(result.exception) if result.exception else "")


def wrapped(state: dict[str, Any]) -> dict[str, Any]:
    return {f"module.{name}": value for name, value in state.items()}


CASES: dict[str, tuple[str, Callable[[], nn.Module], Callable[[dict[str, Any]], object], int]] = {
    "ABMIL": ("abmil", lambda: Abmil(gated=False), lambda state: state, 2),
    "ABMIL, gated": ("abmil", lambda: Abmil(gated=True), wrapped, 2),
    "ABMIL, first names": ("abmil", lambda: Abmil(gated=True, weights="attention_weights"), wrapped, 2),
    "ABMIL of three classes": ("abmil", lambda: Abmil(gated=True, classes=3), lambda s: {"state_dict": s}, 3),
    "CLAM": ("clam", lambda: Clam(GatedAttention, branches=False, dropout=True), lambda state: state, C),
    "CLAM without dropout": ("clam", lambda: Clam(GatedAttention, branches=False, dropout=False), wrapped, C),
    "CLAM, a branch per class": ("clam", lambda: Clam(GatedAttention, branches=True, dropout=True), wrapped, C),
    "CLAM, not gated": (
        "clam",
        lambda: Clam(lambda k: PlainAttention(k, dropout=True), branches=True, dropout=True),
        lambda state: {"model": state},
        C,
    ),
    "CLAM, not gated, without dropout": (
        "clam",
        lambda: Clam(lambda k: PlainAttention(k, dropout=False), branches=False, dropout=False),
        wrapped,
        C,
    ),
    "probe": (
        "attentive-probe",
        lambda: Probe(CrossAttentionBlock()),
        lambda state: {"classifier": wrapped(state), "opt": {"state": {}}, "epoch": 3},
        C,
    ),
    "probe, attention alone": (
        "attentive-probe",
        lambda: Probe(CrossAttention(proj=True, bias=False)),
        lambda state: state,
        C,
    ),
    "probe, no projection": (
        "attentive-probe",
        lambda: Probe(CrossAttention(proj=False, bias=True)),
        lambda state: state,
        C,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_f_is_the_forward_pass(tmp_path: Path, name: str) -> None:
    source, make, stored, classes = CASES[name]
    module = make().eval()
    drawn(module)
    options = ["--attention-heads", "2"] if source == "attentive-probe" else []
    code, output = run(tmp_path, source, stored(module.state_dict()), *options, classes=classes)
    assert code == 0, output
    assert f"D = {D}, C = {classes}" in output
    if source == "clam":
        assert "instance_classifiers.* (6 tensors)" in output
    if source == "abmil":
        assert "feature_extractor_part1.* (2 tensors)" in output
        assert ("sigmoids" in output) == (classes == 2)
    model, (_, prior) = load_model(str(tmp_path / "bundle")), prior_of(tmp_path, classes)
    features = torch.randn((5, D), generator=torch.Generator().manual_seed(1))
    expected = esv_by_orders(module_game(module, features, prior), 5)
    np.testing.assert_allclose(explain(model, features, estimator="exact").esv, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("source", "change", "options", "part"),
    [
        ("clam", lambda s: {k: v for k, v in s.items() if "attention_c" not in k}, (), "no layer attention"),
        ("clam", lambda s: s | {"extra.weight": torch.ones(2, 2)}, (), "extra.weight"),
        ("clam", lambda s: s | {"attention_net.2.attention_c.weight": torch.ones(1, 4)}, (), "one layer attention"),
        ("clam", lambda s: s | {"classifiers.1.weight": torch.ones(1, 5)}, (), "one classifier for each class"),
        ("clam", lambda s: s, ("--attention-heads", "2"), "no effect on models of clam"),
        ("abmil", lambda s: s, (), "expected keys attention"),
    ],
)
def test_other_checkpoints_are_refused(
    tmp_path: Path,
    source: str,
    change: Callable[[dict[str, Any]], dict[str, Any]],
    options: tuple[str, ...],
    part: str,
) -> None:
    state = Clam(GatedAttention, branches=False, dropout=True).state_dict()
    code, output = run(tmp_path, source, change(dict(state)), *options)
    assert code != 0
    assert part in output
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    ("module", "options", "part"),
    [
        (lambda: Probe(CrossAttentionBlock()), (), "expected --attention-heads N"),
        (lambda: Probe(CrossAttentionBlock()), ("--attention-heads", "4"), "expected a divisor of D = 6, got 4"),
        (lambda: Probe(CrossAttentionBlock(), queries=2), ("--attention-heads", "2"), "expected one query"),
    ],
)
def test_other_probes_are_refused(
    tmp_path: Path, module: Callable[[], nn.Module], options: tuple[str, ...], part: str
) -> None:
    code, output = run(tmp_path, "attentive-probe", module().state_dict(), *options)
    assert code != 0
    assert part in output


def test_blocks_after_the_query_are_refused(tmp_path: Path) -> None:
    state = Probe(CrossAttentionBlock()).state_dict()
    state["pooler.blocks.0.norm1.weight"] = torch.ones(D)
    code, output = run(tmp_path, "attentive-probe", state, "--attention-heads", "2")
    assert code != 0
    assert "pooler.blocks.0.norm1.weight" in output


def test_outputs_are_cut(tmp_path: Path) -> None:
    module = Probe(CrossAttentionBlock()).eval()
    drawn(module)
    prior = tmp_path / "two.csv"
    prior.write_text("class,prior\n0,0.5\n1,0.5\n")
    torch.save(module.state_dict(), tmp_path / "model.pth")
    arguments = ["--from", "attentive-probe", "--attention-heads", "2", "--out", str(tmp_path / "cut")]
    arguments += ["--outputs", "last=1:3", "--prior", f"last={prior}", str(tmp_path / "model.pth")]
    result = CliRunner().invoke(cli, ["import", "model", *arguments])
    assert result.exit_code == 0, result.output
    features = torch.randn((1, 4, D), generator=torch.Generator().manual_seed(1))
    scores = explain(load_model(str(tmp_path / "cut" / "last")), features[0]).scores
    np.testing.assert_allclose(scores, module(features)[0, 1:].softmax(dim=0), rtol=0, atol=1e-6)


def test_what_frames_must_be_like_is_kept(tmp_path: Path) -> None:
    """`extraction`, as the other kinds have it."""
    url, own = str(tmp_path / "model"), {"mean": [1.0, 2.0, 3.0], "size": 224}
    save_pooled(url, CosinePooling(torch.eye(3, 4), 1.0), torch.full((3,), 1 / 3), feature_dim=4, extraction=own)
    assert json.loads(Path(url, "model.json").read_text())["extraction"] == own
    state = {"text": torch.eye(3, 4), "scale": torch.tensor(1.0)}
    made = imported_pooled(PoolingManifest(form="cosine"), state, feature_dim=4, found="", f="", extraction=own)
    assert made.cut is not None
    made.cut(0, 2).save(str(tmp_path / "cut"), torch.full((2,), 0.5), None)
    assert json.loads((tmp_path / "cut" / "model.json").read_text())["extraction"] == own
