"""Sample files for the tutorial: recordings as .npy files, labels, and a PyTorch model with its weights.

python -m esv_ray.sample
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from esv_ray import storage
from esv_ray.errors import DataError, EsvError

RECORDINGS, _EVERY = 60, 6  # every sixth of the demo's 370 recordings, which are in the order of their speakers
_WRONG_REQUEST = 2


def demo_folder() -> Path:
    """Return the folder of the demo's data: in the installed package, or in the checkout."""
    package = Path(__file__).parent
    installed = package / "_demo"
    return installed if installed.is_dir() else package.parent / "jobs" / "demo"


def sample_files() -> Iterator[tuple[str, bytes]]:
    """Yield the relative path and the content of each file.

    ``arrays/ID.npy`` holds a recording, float32 (T, 12); ``labels.csv`` names its speaker; ``gru.py`` and
    ``gru.safetensors`` are the model, which `jobs/models/train_gru.py` has trained on the demo's other recordings.
    """
    data = demo_folder()
    table = pq.read_table(data / "test.parquet").take(list(range(0, RECORDINGS * _EVERY, _EVERY)))
    names = (data / "classes.csv").read_text().splitlines()[1:]  # name,id in the order of the ids
    labels = ["video_id,label"]
    for row in table.to_pylist():
        array = io.BytesIO()
        np.save(array, np.array(row["features"], dtype=np.float32))
        yield f"arrays/{row['video_id']}.npy", array.getvalue()
        labels.append(f"{row['video_id']},{names[row['label']].partition(',')[0]}")
    yield "labels.csv", "\n".join([*labels, ""]).encode()
    module = data / "gru.py"  # beside the data in the installed package
    yield "gru.py", (module if module.exists() else data.parent / "models" / "gru.py").read_bytes()
    yield "gru.safetensors", (data / "gru.safetensors").read_bytes()


def write_sample(folder: str) -> None:
    """Write the files into a folder; files that are there with the same content stay.

    Raises:
        DataError: a file exists with another content, or cannot be written.
    """
    files = {str(Path(folder, name).absolute()): content for name, content in sample_files()}
    for path, content in files.items():
        if storage.exists(path) and storage.read_bytes(path, "read the folder of the sample") != content:
            raise DataError(f"{path}: expected no such file, found one with other content; choose another folder")
    for path, content in files.items():
        storage.commit_new(path, content, "write the sample")


def main() -> None:
    """Write the files into the folder that is given, and list them."""
    parser = argparse.ArgumentParser(prog="python -m esv_ray.sample", description=__doc__.partition("\n")[0])
    parser.add_argument("folder", nargs="?", default=".", metavar="DIR", help="where to write (default: here)")
    folder = parser.parse_args().folder
    try:
        write_sample(folder)
    except EsvError as error:
        print(f"esv: {error}", file=sys.stderr)
        sys.exit(_WRONG_REQUEST)
    for path, text in (
        ("arrays/", f"{RECORDINGS} recordings as .npy files, (T, 12) each"),
        ("labels.csv", "the speaker of each"),
        ("gru.py", "a PyTorch model"),
        ("gru.safetensors", "its trained weights"),
    ):
        print(f"{Path(folder, path)!s:<16} {text}")


if __name__ == "__main__":
    main()
