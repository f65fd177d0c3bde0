"""Train the GRU of gru.py on random subsequences of every length, so that no subsequence is new to it.

python jobs/models/train_gru.py jobs/demo/train.parquet gru.safetensors
"""

import sys

import numpy as np
import pyarrow.parquet as pq
import torch
from gru import make
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy

EPOCHS, SEED = 60, 0


def batches(table: str) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return features (B, T, D) and labels (B,) of the recordings of each length T."""
    by_length: dict[int, list[tuple[list[list[float]], int]]] = {}
    for row in pq.read_table(table, columns=["features", "label"]).to_pylist():
        by_length.setdefault(len(row["features"]), []).append((row["features"], row["label"]))
    return [
        (torch.from_numpy(np.array([x for x, _ in rows], dtype=np.float32)), torch.tensor([y for _, y in rows]))
        for _, rows in sorted(by_length.items())
    ]


def main(table: str, out: str) -> None:
    """Train, and write the weights."""
    torch.set_num_threads(1)  # more would spend their time waiting on so small a module
    torch.manual_seed(SEED)
    module = make()
    optimizer = torch.optim.AdamW(module.parameters(), lr=5e-3, weight_decay=1e-3)
    data = batches(table)
    for _ in range(EPOCHS):
        for place in torch.randperm(len(data)).tolist():
            features, labels = data[place]
            length = int(torch.randint(1, features.shape[1] + 1, ()))
            kept = torch.rand(features.shape[:2]).argsort(dim=1)[:, :length].sort(dim=1).values  # (B, length)
            loss = cross_entropy(module(features.take_along_dim(kept[..., None], dim=1)), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    save_file(module.state_dict(), out)


if __name__ == "__main__":
    main(*sys.argv[1:])
