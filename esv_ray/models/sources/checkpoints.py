"""Read state dicts from published checkpoints. Tensors and plain values are unpickled; other objects stay inert.

A state dict may be nested below any keys. Unused tensors are counted by name; `play_fair` refuses unrecognized tensors
that could belong to the model.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from esv_ray import storage
from esv_ray.errors import ModelError, count_of
from esv_ray.machine import host_memory
from esv_ray.models.class_tables import few
from esv_ray.models.sources.checkpoint_content import MOST_DEPTH, as_tensors, joined_scales
from esv_ray.models.sources.checkpoint_kinds import check_is_checkpoint, is_pickled, is_safetensors
from esv_ray.models.sources.checkpoint_names import (
    NonHeadTensors,
    average_in,
    inputs_in_backbone,
    is_average_or_training,
    is_non_head_name,
    unwrapped,
)
from esv_ray.models.sources.checkpoint_numbers import numbers_that_may_change_f
from esv_ray.models.sources.configuration import configuration_of
from esv_ray.models.weights import tensors_of
from esv_ray.unpickling import Inert, unpickle


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A state dict and the other content of its file.

    Attributes:
        url: location of the file.
        size: bytes of the file.
        state: tensors, and plain values among them, by name without the segments of wrappers.
        unused: number of unused tensors, by the name of their group.
        average: name of the averages of weights, if the file holds no other heads and they are used.
        backbone: number of inputs of its unused linear layers, by name.
        numbers: unused plain numbers whose names suggest that they change F, with their values.
        classes: of the modules that the file holds instead of state dicts.
        configuration: text of the configuration in the file, or "".
        path: keys of the file that lead to the state dict.
    """

    url: str
    size: int
    state: dict[str, Any]
    unused: Counter[str] = field(default_factory=Counter)
    average: str | None = None
    backbone: dict[str, int] = field(default_factory=dict)
    numbers: list[str] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    configuration: str = ""
    path: tuple[str, ...] = ()

    def tensor(self, name: str) -> Tensor:
        """Return a tensor of the state dict: dense, on the CPU, with all its numbers in the file.

        Raises:
            ModelError: it is of another kind, or a view of fewer numbers.
        """
        value = self.state[name]
        kind = _unsupported_kind(value)
        if kind is not None:
            raise ModelError(f"{self.url}: {name:.100}: expected a dense tensor, got {kind}")
        if value.numel() * value.element_size() > self.size:  # a view may expand one number to any size
            raise ModelError(
                f"{self.url}: {name:.100}: expected numbers that the file holds, got a view {tuple(value.shape)}"
            )
        return value.detach()  # type: ignore[no-any-return]


def read_checkpoint(
    url: str, is_head: Callable[[str], bool], *, whole: bool = False, by_scale: bool = False
) -> Checkpoint:
    """Read the state dict of a checkpoint.

    Args:
        url: a torch checkpoint (``.pth``) or a safetensors file.
        is_head: returns whether a name is one of a head's tensors; used to find the state dict.
        whole: whether the state dict is of a whole model, with any tensors: none of them is left out.
        by_scale: whether names begin with a scale, so that a dictionary {s: state dict} is read as one state dict.

    Raises:
        ModelError: it is not a checkpoint, or it holds several state dicts, or further tensors that may belong to the
            model.
        DataError: it cannot be read.
    """
    data = storage.read_bytes(url, "read the checkpoint", most=host_memory() // 2)
    # The name counts, too, so that a damaged safetensors file is reported as one.
    named = url.lower().endswith(".safetensors") and not is_pickled(data)
    safe = named or is_safetensors(data)
    content, classes = (_safetensors(url, data), []) if safe else _unpickled(url, data)
    configuration = configuration_of(content)
    if by_scale:
        content = joined_scales(content)
    path = _path_of_state(url, content, is_head)
    numbers = list(numbers_that_may_change_f(content))
    entries: list[tuple[str, object]] = []  # outside the state dict
    for key in path:
        entries += [(str(other), value) for other, value in content.items() if other != key]
        content = content[key]
    items = [(unwrapped(str(key)), value) for key, value in content.items()]
    heads = {name: value for name, value in items if is_head(name) and isinstance(value, Tensor)}
    # Averages are used only if there are no other heads.
    heads = {name: value for name, value in heads.items() if not is_non_head_name(name)} or {
        name: value for name, value in heads.items() if average_in([name])
    }
    if whole:
        heads = {name: value for name, value in items if isinstance(value, Tensor)}
    non_heads = NonHeadTensors(heads, (lambda name: True) if whole else is_head)
    average = average_in([*map(str, path), *(() if whole else heads)])
    checkpoint = Checkpoint(
        url,
        len(data),
        {},
        average=average,
        numbers=numbers,
        classes=classes,
        configuration=configuration,
        path=tuple(map(str, path)),
    )
    for name, value in items:
        group = non_heads.group(name, value) if isinstance(value, Tensor) and name not in heads else None
        if not isinstance(value, Tensor) and (whole or not is_head(name)):  # plain values, or training state
            entries.append((name, value))
        elif group is not None:
            checkpoint.unused[group] += 1
            checkpoint.backbone.update(inputs_in_backbone(name, value))
        elif name in checkpoint.state:
            raise ModelError(f"{url}: expected each tensor once, got two named {name!r:.100}")
        else:
            checkpoint.state[name] = value
    for key, value in entries if heads else ():  # without heads the caller refuses the file
        _count_unused(checkpoint, key, value, non_heads)
    return checkpoint


def _safetensors(url: str, data: bytes) -> Mapping[Any, Any]:
    try:
        return tensors_of(data)
    except ModelError as error:
        raise ModelError(f"{url}: {error}") from None


def _unpickled(url: str, data: bytes) -> tuple[Mapping[Any, Any], list[str]]:
    """Return the content of a torch checkpoint or a pickle, and the classes of the modules in it."""
    check_is_checkpoint(url, data)
    try:
        content, classes = as_tensors(unpickle(data))
    except ValueError as error:
        again = "; download it again" if "cut short" in str(error) or "damaged" in str(error) else ""
        raise ModelError(f"{url}: expected a torch checkpoint, got {error}{again}") from None
    if not isinstance(content, Mapping):
        without = "" if isinstance(content, Inert) else " without named tensors"
        raise ModelError(f"{url}: expected a state dict, got {_name_of(content)}{without}")
    return content, classes


def _path_of_state(url: str, content: Mapping[Any, Any], is_head: Callable[[str], bool]) -> list[Any]:
    """Return the keys that lead to the state dict of the heads."""
    mappings = list(_mappings(content))
    heads = [(path, names) for path, names in mappings if any(map(is_head, names))]
    # An average is a copy of the model; it is used only if there is nothing else.
    heads = [each for each in heads if not any(is_average_or_training(str(key)) for key in each[0])] or heads
    if len(heads) > 1:
        places = [repr(".".join(map(str, path)))[:60] if path else "the file itself" for path, _ in heads]
        raise ModelError(
            f"{url}: expected one state dict, got several, under {few(places)}; save only the intended one "
            "(single-scale heads: one file each)"
        )
    if heads:
        return heads[0][0]
    for key in ("model", "state_dict"):
        if any(path == [key] for path, _ in mappings):
            return [key]
    if mappings:
        return mappings[0][0]
    inert = next((value for value in content.values() if isinstance(value, Inert)), None)
    instead = f", but {_name_of(inert)}" if inert is not None else ""
    for key, value in content.items():
        if isinstance(value, list | tuple) and any(isinstance(each, Mapping) for each in value):
            instead = (
                f", but {count_of(len(value), 'state dict')} in a list under {str(key)!r:.60}; save the one to import"
            )
    raise ModelError(f'{url}: expected a state dict under "model" or "state_dict", got no tensors{instead}')


def _mappings(content: Mapping[Any, Any]) -> Iterator[tuple[list[Any], list[str]]]:
    """Yield the path of each nested dictionary that holds tensors, and the tensors' names."""
    waiting: deque[tuple[list[Any], Mapping[Any, Any]]] = deque([([], content)])
    visited = {id(content)}
    while waiting:
        path, mapping = waiting.popleft()
        names = [unwrapped(str(key)) for key, value in mapping.items() if isinstance(value, Tensor)]
        if names:
            yield path, names
        for key, value in mapping.items():
            if isinstance(value, Mapping) and id(value) not in visited and len(path) < MOST_DEPTH:
                visited.add(id(value))
                waiting.append(([*path, key], value))


def _count_unused(checkpoint: Checkpoint, key: str, value: object, non_heads: NonHeadTensors) -> None:
    """Count the tensors of an entry outside the state dict.

    Raises:
        ModelError: some may belong to the model.
    """
    count, strays = non_heads.strays(key, value)
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


def _unsupported_kind(value: object) -> str | None:
    """Describe a value that is not a dense tensor on the CPU; return None for one that is."""
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
    if isinstance(value, Inert):
        return f"an object of {value.name!r:.100}, which is not made, since that could run code"
    name = type(value).__name__
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"
