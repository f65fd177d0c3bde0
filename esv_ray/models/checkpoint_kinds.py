"""What a file is, by its first bytes, and how to get a checkpoint from it where it is none."""

from __future__ import annotations

import io
import json
import re
import zipfile
from codecs import getincrementaldecoder

from esv_ray.errors import ModelError

_PACKED = "unpack it and give the checkpoint in it"
_AGAIN = "download it again"
_MAGIC: tuple[tuple[bytes, str, str], ...] = (
    (b"version https://git-lfs.github.com/", "a Git LFS pointer in place of the file", "fetch the file: git lfs pull"),
    (b"\x1f\x8b", "a gzip file", _PACKED),
    (b"BZh", "a bzip2 file", _PACKED),
    (b"\xfd7zXZ\0", "an xz file", _PACKED),
    (b"\x28\xb5\x2f\xfd", "a Zstandard file", _PACKED),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _PACKED),
    (b"Rar!", "a RAR archive", _PACKED),
    (
        b"\x89HDF\r\n\x1a\n",
        "an HDF5 file",
        "Keras weights: save the PyTorch model's state dict; features: esv import features",
    ),
    (b"\x93NUMPY", "a NumPy array (.npy)", "save the tensors as a state dict with torch.save"),
    (b"PAR1", "a Parquet file", "that is a feature table: give it to esv attribute or esv train"),
    (b"GGUF", "a GGUF file", "save the PyTorch model's state dict"),
    (b"%PDF", "a PDF file", _AGAIN),
)
_ONNX = re.compile(rb"\x08[\x01-\x14]\x12[\x01-\x40]")  # ir_version, then the producer's name: how exporters begin
_HTML = re.compile(rb"\s*(?:<!--.*?-->\s*)?<(?:!doctype|html|head|\?xml)", re.IGNORECASE | re.DOTALL)
_MOST_HEADER = 100_000_000  # bytes of a safetensors header, as the library has it


def is_safetensors(data: bytes) -> bool:
    """Whether the bytes begin as a safetensors file: the length of a JSON object, then that."""
    length = int.from_bytes(data[:8], "little")
    return len(data) > 8 and data[8:9] == b"{" and 2 <= length <= _MOST_HEADER


def check_is_checkpoint(url: str, data: bytes) -> None:
    """Refuse a file that is known to be something else than a torch checkpoint or a safetensors file.

    Raises:
        ModelError: it is; says what, and how to go on.
    """
    known = _known(data)
    if known is not None:
        raise ModelError(f"{url}: expected a torch checkpoint or a .safetensors file, got {known[0]}; {known[1]}")


def _known(data: bytes) -> tuple[str, str] | None:
    """Return what the bytes are and how to go on, or None where they may be a checkpoint."""
    if not data:
        return "an empty file", _AGAIN
    if not data.strip(b"\0"):
        return "zeros only, as a broken download or disk leaves", _AGAIN
    for magic, what, advice in _MAGIC:
        if data.startswith(magic):
            return what, advice
    if data.startswith(b"PK"):
        return _archive(data)
    if is_safetensors(data):
        end = 8 + int.from_bytes(data[:8], "little")
        return ("a safetensors file that is cut short", _AGAIN) if end > len(data) else None
    if data[257:262] == b"ustar":
        inside = re.search(rb"(?:^|/)(?:storages|tensors|sys_info)\0", data[:100]) is not None
        if inside:
            return "a tar archive of torch before 0.2", "load it with such a torch and save its state dict again"
        return "a tar archive", _PACKED
    if _HTML.match(data[:4096]):
        return "an HTML page, as a login or a confirmation leaves in place of a download", "download the file itself"
    if _ONNX.match(data):
        return "what begins as an ONNX model", "save the PyTorch model's state dict with torch.save"
    return _text(data)


def _archive(data: bytes) -> tuple[str, str] | None:
    """Tell a torch checkpoint (None) from other zip archives."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            sizes = sum(part.file_size for part in archive.infolist())
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError):
        return "a zip archive that is cut short or broken", _AGAIN
    if sizes > len(data):  # torch packs nothing: it would swell
        return f"an archive that unpacks to {sizes} bytes", _PACKED
    ends = {name.rpartition("/")[2] for name in names}
    if any(name.endswith("/constants.pkl") for name in names):
        return "a TorchScript archive, which holds code", "load it with torch.jit.load and torch.save its state_dict()"
    if names and all(name.endswith(".npy") for name in names):
        return "NumPy arrays (.npz)", "save the tensors as a state dict with torch.save"
    if "model.weights.h5" in ends:
        return "a Keras model", "save the PyTorch model's state dict"
    if "data.pkl" not in ends:
        return f"a zip archive of {', '.join(map(repr, names[:2])) or 'nothing'}"[:200], _PACKED
    return None


def _text(data: bytes) -> tuple[str, str] | None:
    """Recognise plain text."""
    try:
        start = getincrementaldecoder("utf-8")().decode(data[:4096], len(data) <= 4096).removeprefix("\ufeff")
    except UnicodeDecodeError:
        return None
    if not start.strip() or not all(char.isprintable() or char in "\t\r\n" for char in start):
        return None
    if start.lstrip().startswith("{"):
        try:
            sharded = "weight_map" in json.loads(data)
        except (ValueError, RecursionError):
            sharded = False
        if sharded:
            return "the index of a model in several files", "save the heads' tensors as one state dict"
        return "JSON text", "give the file of the weights"
    return f"text that begins with {start.strip().splitlines()[0][:60]!r}", "give the file of the weights"
