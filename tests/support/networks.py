"""Small random networks of images, in the layout of Hugging Face, and the library's own forward passes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SIDE = 32
FRAMES = {"timesformer": 4, "videomae": 8}
"""Frames that the networks are made for."""
SHAPES = {"timesformer": (SIDE, SIDE, 3), "videomae": (2, SIDE, SIDE, 3)}
"""Of an element."""
NAMES = ["catch", "throw", "drop"]
MEAN, STD = [0.4, 0.5, 0.45], [0.2, 0.25, 0.3]
PREPROCESSOR = {
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": MEAN,
    "image_std": STD,
    "size": {"shortest_edge": SIDE},
    "crop_size": {"height": SIDE, "width": SIDE},
}


def save_network(family: str, folder: Path, **changes: Any) -> Any:
    """Make a small network of a family with random weights, save it as the library does, and return it."""
    import transformers

    torch.manual_seed(7)
    sizes = {
        "image_size": SIDE,
        "patch_size": 16,
        "num_frames": FRAMES[family],
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "initializer_range": 0.3,  # logits that differ
        "id2label": dict(enumerate(NAMES)),
        "label2id": {name: number for number, name in enumerate(NAMES)},
    }
    kinds: dict[str, tuple[Any, Any]] = {
        "timesformer": (transformers.TimesformerConfig, transformers.TimesformerForVideoClassification),
        "videomae": (transformers.VideoMAEConfig, transformers.VideoMAEForVideoClassification),
    }
    config, network = kinds[family]
    made = network(config(**{**sizes, **changes})).eval()
    for parameter in made.parameters():  # position embeddings and biases are zero at first
        parameter.data += 0.1 * torch.randn(parameter.shape)
    made.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
    return made


@torch.no_grad()
def own_logits(family: str, network: Any, images: Tensor, kept: list[int]) -> Tensor:
    """Return the logits (C,) of a subsequence, by one forward pass of the library's network for it alone.

    Args:
        family: of the network.
        network: of `save_network`.
        images: (n, *SHAPES[family]) uint8, the whole sequence.
        kept: its elements.
    """
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    pixels = (images.movedim(-1, -3).float() / 255 - mean) / std
    if family == "timesformer":
        network.config.num_frames = len(kept)
        out: Tensor = network(pixels[kept][None]).logits[0]
        return out
    frames = pixels.flatten(0, 1)  # (2 n, 3, H, W)
    if len(kept) == len(images):
        whole: Tensor = network(frames[None]).logits[0]
        return whole
    patches = (SIDE // 16) ** 2
    masked = torch.tensor([element not in kept for element in range(len(images))]).repeat_interleave(patches)
    states = network.videomae(frames[None], bool_masked_pos=masked[None]).last_hidden_state
    masked_out: Tensor = network.classifier(network.fc_norm(states.mean(1)))[0]
    return masked_out
