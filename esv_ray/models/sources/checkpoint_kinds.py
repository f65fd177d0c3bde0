"""Recognize the format of a file by its first bytes, and say how to get a checkpoint from it."""

from __future__ import annotations

import io
import json
import re
import zipfile
from codecs import getincrementaldecoder

from esv_ray import storage
from esv_ray.errors import ModelError

_PACKED = "unpack it and give the checkpoint in it"
_AGAIN = "download it again"
_ADVICE = {
    "an HDF5 file": "Keras weights: save the PyTorch model's state dict; features: esv import features",
    "a NumPy array (.npy)": "save the tensors as a state dict with torch.save",
    "a Parquet file": "that is a feature table: give it to esv attribute or esv train",
}
_STATE_DICT = "save the PyTorch model's state dict"
_ONNX = re.compile(rb"\x08[\x01-\x14]\x12[\x01-\x40]")  # ir_version, then the producer's name: how exporters begin
# First instructions of pickles of any protocol: a protocol, a dict, a list, a tuple or mark, a class.
_FIRST_OF_PICKLES = (b"\x80", b"}", b"]", b")", b"(", b"c")
# Start of torch.save's format before zip archives: one pickled number, in any protocol.
_MAGIC_NUMBER = (b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", b"L119547037146038801333356L\n.")
_MOST_HEADER = 100_000_000  # bytes of a safetensors header; the limit of the library


def is_safetensors(data: bytes) -> bool:
    """Return whether the bytes begin like a safetensors file: the length of a JSON object, then the object."""
    length = int.from_bytes(data[:8], "little")
    return len(data) > 8 and data[8:9] == b"{" and 2 <= length <= _MOST_HEADER


def is_pickled(data: bytes) -> bool:
    """Return whether the bytes begin like a file of torch.save: a zip archive, or a pickle with its protocol."""
    return data.startswith(b"PK") or (data[:1] == b"\x80" and data[1:2] in b"\x02\x03\x04\x05" and data[2:3] > b"\0")


def check_is_checkpoint(url: str, data: bytes) -> None:
    """Refuse a file that is neither a torch checkpoint, a pickle nor a safetensors file.

    Raises:
        ModelError: the file has another format; the message names it and the next step.
    """
    recognized = _recognize(data)
    if b"joblib.numpy_pickle" in data[:65536] and not data.startswith(b"PK"):
        recognized = "a file of joblib.dump", "save its tensors with torch.save(state_dict, path)"
    if recognized is None and data[:1] not in _FIRST_OF_PICKLES and not data.startswith(b"PK"):
        recognized = f"bytes that begin as neither ({data[:8].hex(' ')})", _AGAIN
    if recognized is not None:
        raise ModelError(
            f"{url}: expected a torch checkpoint or a .safetensors file, got {recognized[0]}; {recognized[1]}"
        )


def safetensors_fault(data: bytes, error: Exception) -> str:
    """Describe why a file is not a valid safetensors file, and the next step.

    Args:
        data: content of the file.
        error: exception of the safetensors library.
    """
    kind, advice = _recognize_other(data) or _damage(data, error)
    return f"expected a safetensors file, got {kind}; {advice}"


def _recognize_other(data: bytes) -> tuple[str, str] | None:
    if is_safetensors(data):
        return None
    recognized = _recognize(data)
    if recognized is None and is_pickled(data):
        start = data[2:40]
        if not data.startswith(b"PK") and not any(magic in start or magic.startswith(start) for magic in _MAGIC_NUMBER):
            return "a file of pickle.dump", "save its tensors with safetensors"
        return "a torch checkpoint", "heads of the authors' layout: esv import model; others: save with safetensors"
    return recognized


def _damage(data: bytes, error: Exception) -> tuple[str, str]:
    """Describe the damage of a safetensors file: 8 bytes of header length, the header, the tensors."""
    size = len(data) - 8
    if size < 0:
        return f"only {len(data)} bytes, which is too short for a safetensors file", _AGAIN
    length = int.from_bytes(data[:8], "little")
    if length > min(size, _MOST_HEADER):
        if is_safetensors(data) or (not size and length <= _MOST_HEADER):
            return f"one that is cut short in its header: {size} of {length} bytes", _AGAIN
        return f"a damaged file or another format: its first 8 bytes give a header length of {length} bytes", _AGAIN
    try:
        header = json.loads(data[8 : 8 + length])
    except (ValueError, RecursionError):
        return f"one that is damaged: its header of {length} bytes is not JSON", _AGAIN
    if not isinstance(header, dict):
        return "one that is damaged: its header is not a JSON object", _AGAIN
    tensors = [value for value in header.values() if isinstance(value, dict)]
    stops = [
        ends[1] for ends in (tensor.get("data_offsets") for tensor in tensors) if isinstance(ends, list) and ends[1:]
    ]
    stop, n_bytes = max((end for end in stops if isinstance(end, int)), default=0), size - length
    if n_bytes < stop:
        return f"one that is cut short: {n_bytes} of {stop} bytes of tensors", _AGAIN
    if n_bytes > stop:
        return f"one that is damaged: {n_bytes} bytes of tensors, but its header lists {stop}", _AGAIN
    if isinstance(error, KeyError):
        return f"tensors of a type that this torch lacks ({error})", "save them as float32"
    message = " ".join(str(error).removeprefix("Error while deserializing: ").split())
    return f"one with an invalid header ({message:.100})", "save it again with the safetensors library"


def _recognize(data: bytes) -> tuple[str, str] | None:
    """Return the format of the bytes and the next step, or None if they may be a checkpoint."""
    if not data:
        return "an empty file", _AGAIN
    if not data.strip(b"\0"):
        return "zeros only, as after a broken download or a disk error", _AGAIN
    kind = storage.kind_of(data)
    if kind is not None:
        return kind[0], _ADVICE.get(kind[0]) or kind[1] or _STATE_DICT
    if data.startswith(b"PK"):
        return _archive(data)
    if data[257:262] == b"ustar":
        inside = re.search(rb"(?:^|/)(?:storages|tensors|sys_info)\0", data[:100]) is not None
        if inside:
            return "a tar archive of torch before 0.2", "load it with torch before 0.2 and save its state dict again"
        return "a tar archive", _PACKED
    if _ONNX.match(data):
        return "what looks like an ONNX model", _STATE_DICT
    return _text(data)


def _archive(data: bytes) -> tuple[str, str] | None:
    """Recognize a zip archive; return None if it is a torch checkpoint."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            sizes = sum(part.file_size for part in archive.infolist())
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError):
        return "a zip archive that is cut short or damaged", _AGAIN
    if sizes > len(data):  # torch stores without compression
        return f"an archive that unpacks to {sizes} bytes", _PACKED
    ends = {name.rpartition("/")[2] for name in names}
    if any(name.endswith("/constants.pkl") for name in names):
        return "a TorchScript archive, which holds code", "load it with torch.jit.load and torch.save its state_dict()"
    if names and all(name.endswith(".npy") for name in names):
        return "NumPy arrays (.npz)", "save the tensors as a state dict with torch.save"
    if "model.weights.h5" in ends:
        return "a Keras model", _STATE_DICT
    if "data.pkl" not in ends:
        return f"a zip archive of {', '.join(map(repr, names[:2])) or 'nothing'}"[:200], _PACKED
    return None


def _text(data: bytes) -> tuple[str, str] | None:
    """Recognize plain text."""
    try:
        start = getincrementaldecoder("utf-8")().decode(data[:4096], len(data) <= 4096).removeprefix("\ufeff")
    except UnicodeDecodeError:
        return None
    if not start.strip() or not all(char.isprintable() or char in "\t\r\n" for char in start):
        return None
    if start.startswith(("(dp", "(lp", "ccollections\n")) and data.endswith(b"."):
        return None  # a pickle of protocol 0
    if start.lstrip().startswith("{"):
        try:
            sharded = "weight_map" in json.loads(data)
        except (ValueError, RecursionError):
            sharded = False
        if sharded:
            return "the index of a model in several files", "save the heads' tensors as one state dict"
        return "JSON text", "give the file of the weights"
    return f"text that begins with {start.strip().splitlines()[0][:60]!r}", "give the file of the weights"
