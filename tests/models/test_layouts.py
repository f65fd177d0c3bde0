"""A checkpoint of another layout is refused with the name of the nearest one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from esv_ray.errors import ModelError
from esv_ray.models.sources.attention import read_attention
from esv_ray.models.sources.imported import Imported
from esv_ray.models.sources.play_fair import read_play_fair
from esv_ray.models.sources.trn import read_trn
from tests.models.test_linear import Torchvision
from tests.models.test_trn import Mmaction2, TrnPytorch
from tests.support.play_fair import state_of

READERS: dict[str, Callable[[str], Imported]] = {
    "play-fair": lambda path: read_play_fair([path]),
    "trn-pytorch": lambda path: read_trn(path, source="trn-pytorch"),
    "epic-kitchens": lambda path: read_trn(path, source="epic-kitchens"),
    "mmaction2": lambda path: read_trn(path, source="mmaction2"),
    "clam": lambda path: read_attention(path, source="clam"),
}
CLAM = {
    "attention_net.0.weight": torch.zeros(4, 5),
    "attention_net.3.attention_a.0.weight": torch.zeros(3, 4),
    "classifiers.weight": torch.zeros(2, 4),
}


@pytest.mark.parametrize(
    ("state", "source", "hint"),
    [
        (TrnPytorch(3).state_dict(), "play-fair", "like those of trn-pytorch: use --from trn-pytorch"),
        (TrnPytorch(3).state_dict(), "mmaction2", "like those of trn-pytorch: use --from trn-pytorch"),
        (Mmaction2(3).state_dict(), "trn-pytorch", "like those of mmaction2: use --from mmaction2"),
        (Mmaction2(None).state_dict(), "epic-kitchens", "like those of mmaction2: use --from mmaction2"),
        (state_of("mtrn_4_frames.pth"), "trn-pytorch", "like those of play-fair: use --from play-fair"),
        (state_of("trn_1_frames.pth"), "mmaction2", "like those of play-fair: use --from play-fair"),
        (CLAM, "play-fair", "like those of clam: use --from clam"),
        ({"pooler.query_tokens": torch.zeros(1, 1, 4)}, "play-fair", "use --from attentive-probe"),
        ({"attention_V.0.weight": torch.zeros(3, 4)}, "mmaction2", "use --from abmil"),
        (Torchvision().state_dict(), "play-fair", "follows the features: use --from linear --layer fc"),
        ({"blocks.5.proj.weight": torch.zeros(4, 5)}, "clam", "use --from linear --layer blocks.5.proj"),
    ],
    ids=range(11),
)
def test_the_nearest_layout_is_named(tmp_path: Path, state: dict[str, Tensor], source: str, hint: str) -> None:
    path = str(tmp_path / "x.pth")
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}, path)
    with pytest.raises(ModelError) as caught:
        READERS[source](path)
    text = str(caught.value)
    assert text.startswith(f"{path}: expected ")
    assert text.endswith(hint)


def test_averages_beside_an_unknown_layout(tmp_path: Path) -> None:
    path = str(tmp_path / "x.pth")
    state = Torchvision().state_dict()
    torch.save({"state_dict": state, "state_dict_ema": state}, path)
    with pytest.raises(ModelError, match=r"expected keys .* use --from linear --layer fc"):
        READERS["play-fair"](path)


def test_no_layout_is_near(tmp_path: Path) -> None:
    path = str(tmp_path / "x.pth")
    torch.save({"a": torch.zeros(3)}, path)
    with pytest.raises(ModelError, match=r"; got 'a'$"):
        READERS["play-fair"](path)
