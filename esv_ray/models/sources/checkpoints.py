"""Checkpoints of others: files to state dicts, of which nothing but tensors is ever unpickled.

A state dict may lie below any key of nested dictionaries. What is not used is counted by name; what could belong to
the model and is not understood is refused by `play_fair`.
"""

from __future__ import annotations

import io
import pickle
import re
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from esv_ray import storage
from esv_ray.errors import ModelError, short_text
from esv_ray.machine import host_memory
from esv_ray.models.class_tables import few
from esv_ray.models.sources.checkpoint_kinds import check_is_checkpoint, is_pickled, is_safetensors, recognise_dump
from esv_ray.models.sources.checkpoint_names import (
    Beside,
    average_in,
    inputs_in_backbone,
    is_beside,
    is_marked,
    unwrapped,
)
from esv_ray.models.sources.checkpoint_numbers import numbers_that_may_change_f
from esv_ray.models.weights import tensors_of

_MOST_SAID = 10_000  # characters of torch's refusal, which names the object far behind its advice
_OF_PROTOCOL_4 = range(0x8C, 0x99)  # instructions of pickles since protocol 4, which torch's reader lacks
_MOST_DEPTH = 3


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A state dict as a file holds it.

    Attributes:
        url: the file.
        size: its bytes.
        state: by name, without the segments that wrappers add; tensors, and plain values that stood among them.
        unused: tensors that are not used, counted by the name of what holds them.
        average: what the file calls the averages of weights whose heads these are, if it holds no other heads.
        backbone: inputs of its unused linear layers, by name.
        numbers: plain numbers that by their names may change F, with their values; they are not used.
    """

    url: str
    size: int
    state: dict[str, Any]
    unused: Counter[str] = field(default_factory=Counter)
    average: str | None = None
    backbone: dict[str, int] = field(default_factory=dict)
    numbers: list[str] = field(default_factory=list)

    def tensor(self, name: str) -> Tensor:
        """Return a tensor that is used: dense, on the CPU, of numbers that the file holds.

        Raises:
            ModelError: it is of another kind.
        """
        value = self.state[name]
        kind = _other_kind(value)
        if kind is not None:
            raise ModelError(f"{self.url}: {name:.100}: expected a dense tensor, got {kind}")
        if value.numel() * value.element_size() > self.size:  # one number may be shown as a tensor of any size
            raise ModelError(
                f"{self.url}: {name:.100}: expected numbers that the file holds, got a view {tuple(value.shape)}"
            )
        return value.detach()  # type: ignore[no-any-return]


def read_checkpoint(url: str, is_head: Callable[[str], bool]) -> Checkpoint:
    """Read the state dict of a checkpoint.

    Args:
        url: a torch checkpoint (``.pth``) or a safetensors file.
        is_head: whether a name is one of the heads' tensors, by which their state dict is found.

    Raises:
        ModelError: it is no checkpoint, or holds several state dicts or tensors beside that may belong to the model.
        DataError: it cannot be read.
    """
    data = storage.read_bytes(url, "read the checkpoint", most=host_memory() // 2)
    # By its name, too: one that is damaged is to be told of as what it was.
    named = url.lower().endswith(".safetensors") and not is_pickled(data)
    content = _safetensors(url, data) if named or is_safetensors(data) else _unpickled(url, data)
    path = _path_of_state(url, content, is_head)
    numbers = list(numbers_that_may_change_f(content))
    entries: list[tuple[str, object]] = []  # beside the state dict
    for key in path:
        entries += [(str(beside), value) for beside, value in content.items() if beside != key]
        content = content[key]
    items = [(unwrapped(str(key)), value) for key, value in content.items()]
    heads = {name: value for name, value in items if is_head(name) and isinstance(value, Tensor)}
    # Averages are the heads where there are no others.
    heads = {name: value for name, value in heads.items() if not is_marked(name)} or {
        name: value for name, value in heads.items() if average_in([name])
    }
    beside = Beside(heads, is_head)
    checkpoint = Checkpoint(url, len(data), {}, average=average_in([*map(str, path), *heads]), numbers=numbers)
    for name, value in items:
        group = beside.group(name, value) if isinstance(value, Tensor) and name not in heads else None
        if not isinstance(value, Tensor) and not is_head(name):  # plain values, or what a training saves
            entries.append((name, value))
        elif group is not None:
            checkpoint.unused[group] += 1
            checkpoint.backbone.update(inputs_in_backbone(name, value))
        elif name in checkpoint.state:
            raise ModelError(f"{url}: expected each tensor once, got two of the name {name!r:.100}")
        else:
            checkpoint.state[name] = value
    for key, value in entries:
        _count_beside(checkpoint, key, value, beside)
    return checkpoint


def _safetensors(url: str, data: bytes) -> Mapping[Any, Any]:
    try:
        return tensors_of(data)
    except ModelError as error:
        raise ModelError(f"{url}: {error}") from None


def _unpickled(url: str, data: bytes) -> Mapping[Any, Any]:
    """Unpickle tensors and plain values; nothing else."""
    check_is_checkpoint(url, data)
    dump = recognise_dump(data)
    if dump is not None:
        raise ModelError(
            f"{url}: expected a torch checkpoint of tensors only, got {dump[0]}, which is not unpickled, since it "
            f"could run code; {dump[1]}"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's of the pickle's protocol: whatever it is, it is read or refused
            content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        message = short_text(error, _MOST_SAID)
        name = re.search(r"GLOBAL ([\w.]*\w) w", message)  # "... was not allowed", "... whose module is blocked"
        detail = re.search(r"Unpickler error: (.{1,80}?)(?: Check |$)", message)
        reason = f"it holds {name[1]:.100}" if name else detail[1] if detail else "a pickle of another kind"
        how = "save its state dict alone: torch.save(state_dict, path)"
        if name and "numpy" in name[1]:
            how = "convert its NumPy arrays with torch.as_tensor and save it again"
        instruction = re.search(r"Unsupported operand (\d+)", message)
        if instruction and int(instruction[1]) in _OF_PROTOCOL_4:
            raise ModelError(
                f"{url}: expected a torch checkpoint of tensors only, got one of pickle protocol 4 or 5; save it with "
                "torch.save(state_dict, path), without pickle_protocol"
            ) from None
        raise ModelError(
            f"{url}: expected a torch checkpoint of tensors only; other objects are not unpickled, since they could "
            f"run code ({reason}); {how}"
        ) from None
    except Exception as error:  # a broken pickle makes the unpickler raise anything
        cut = isinstance(error, EOFError | IndexError) or "unexpected EOF" in str(error)
        raise ModelError(
            f"{url}: expected a torch checkpoint, got "
            + ("one that is cut short; download it again" if cut else short_text(error, 200))
        ) from None
    if not isinstance(content, Mapping):
        raise ModelError(f"{url}: expected a state dict, got {_name_of(content)} and no tensors by name")
    return content


def _path_of_state(url: str, content: Mapping[Any, Any], is_head: Callable[[str], bool]) -> list[Any]:
    """Return the keys below which the state dict of the heads lies."""
    mappings = list(_mappings(content))
    heads = [(path, names) for path, names in mappings if any(map(is_head, names))]
    # An average is a copy of the model; it is taken where there is nothing else.
    heads = [each for each in heads if not any(is_beside(str(key)) for key in each[0])] or heads
    if len(heads) > 1:
        places = [repr(".".join(map(str, path)))[:60] if path else "the file itself" for path, _ in heads]
        raise ModelError(
            f"{url}: expected one state dict, got several, under {few(places)}; save the one that is meant alone "
            "(single-scale heads: a file each)"
        )
    if heads:
        return heads[0][0]
    for key in ("model", "state_dict"):
        if any(path == [key] for path, _ in mappings):
            return [key]
    if mappings:
        return mappings[0][0]
    raise ModelError(f'{url}: expected a state dict under "model" or "state_dict", got no tensors')


def _mappings(content: Mapping[Any, Any]) -> Iterator[tuple[list[Any], list[str]]]:
    """Yield the nested dictionaries that hold tensors: their paths, and the tensors' names."""
    waiting: deque[tuple[list[Any], Mapping[Any, Any]]] = deque([([], content)])
    visited = {id(content)}
    while waiting:
        path, mapping = waiting.popleft()
        names = [unwrapped(str(key)) for key, value in mapping.items() if isinstance(value, Tensor)]
        if names:
            yield path, names
        for key, value in mapping.items():
            if isinstance(value, Mapping) and id(value) not in visited and len(path) < _MOST_DEPTH:
                visited.add(id(value))
                waiting.append(([*path, key], value))


def _count_beside(checkpoint: Checkpoint, key: str, value: object, beside: Beside) -> None:
    """Count the tensors of an entry beside the state dict.

    Raises:
        ModelError: they may belong to the model.
    """
    count, strays = beside.strays(key, value)
    if strays:
        names = few([repr(name)[:60] for name in strays if name != key], 3)
        raise ModelError(
            f"{checkpoint.url}: expected one state dict, got tensors under {key!r:.100} too, which may change F"
            + (f" ({names})" if names else "")
            + "; save the state dict alone if they do not"
        )
    if count:
        checkpoint.unused[key] += count
        checkpoint.backbone.update(inputs_in_backbone(key, value))


def _other_kind(value: object) -> str | None:
    """Name what is no dense tensor on the CPU."""
    if not isinstance(value, Tensor):
        return _name_of(value)
    if value.is_nested:
        return "a nested one"
    if value.is_quantized:
        return "a quantized one; call dequantize() on it and save again"
    if value.layout is not torch.strided:
        return "a sparse one; call to_dense() on it and save again"
    return None if value.device.type == "cpu" else f"one without numbers (device {value.device.type})"


def _name_of(value: object) -> str:
    name = type(value).__name__
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"
