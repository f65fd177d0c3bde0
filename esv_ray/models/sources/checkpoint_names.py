"""Recognize the tensors of a checkpoint that do not belong to the heads: averages, training state, backbones.

A name alone is ambiguous: `ema` is an average of the weights or Efficient Multi-scale Attention. So an average must
have the names and shapes of the heads, and training state must not contain the weights of a layer.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from torch import Tensor

from esv_ray.unpickling import Inert

# Segments that wrappers of modules add to names: DataParallel and DDP, torch.compile, FSDP, activation checkpoints.
_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
# Averages of the weights over training: a copy of the model. The trained weights are used instead.
_AVERAGES = re.compile(r"(?:\w+_)?(?:ema|swa)(?:_\w+)?", re.IGNORECASE)
# Bookkeeping of an average.
_COUNTS = re.compile(
    r"(?:\w+_)?(?:averaged|updates?|steps?|decay|initted|counts?|loss|acc)(?:_(?:ema|swa))?", re.IGNORECASE
)
# Training state saved with the model, and modules after the logits.
_TRAINING_NAME = re.compile(
    r"(?:\w+_)?(?:optim|optimizers?|sched|schedulers?|rng|callbacks|loops|criterion|loss|losses|metrics?)"
    r"(?:_(?:states?|state_dicts?|weights?|fn|func|function|history|curve|log|[0-9]+))*|n_averaged|"
    r"(?:train|val|valid|test)_(?:acc|accuracy|f1|top|prec|precision|recall|map|auroc|conf|confmat|confusion)s?[0-9]*"
    r"(?:_\w+)?",
    re.IGNORECASE,
)
# Further names of training state, as keys of dictionaries; no module has them.
_TRAINING_KEY = re.compile(r"(?:\w+_)?(?:optim|optimizers?|sched|schedulers?|rng|callbacks|loops)(?:_\w+)?", re.I)
_MOST_SEGMENTS = 10  # in a head's name
_MOST_PATH = 50  # segments of a path: entries may be nested endlessly
_BACKBONES = {"base_model", "backbone"}
_WEIGHTS = re.compile(r"(?:\w*_)?weights?(?:_\w+)?|kernel|W", re.IGNORECASE)


def unwrapped(name: str) -> str:
    """Return a tensor's name without the segments added by wrappers of modules."""
    return ".".join(segment for segment in name.split(".") if segment not in _WRAPPERS)


def is_average(key: str) -> bool:
    """Return whether a name is one of averages of weights."""
    return _AVERAGES.fullmatch(key) is not None


def is_average_or_training(key: str) -> bool:
    """Return whether a key of a dictionary is a name of averages of weights or of training state."""
    return is_average(key) or is_training_state(key)


def is_training_state(key: str) -> bool:
    """Return whether a key of a dictionary is a name of training state."""
    return _is_training_name(key) or _TRAINING_KEY.fullmatch(key) is not None


def is_non_head_name(name: str) -> bool:
    """Return whether a segment of a tensor's name suggests that it does not belong to a head."""
    return any(_is_non_head_segment(segment) for segment in name.split("."))


def average_in(names: Iterable[str]) -> str | None:
    """Return the first segment of the names that is a name of averages, or None."""
    return next((segment for name in names for segment in name.split(".") if is_average(segment)), None)


def inputs_in_backbone(name: str, value: object) -> Iterator[tuple[str, int]]:
    """Yield the linear layers of backbones below a name, each with its number of inputs."""
    for path, tensor in _tensors_of(value):
        segments = [*name.split("."), *path]
        linear = tensor.ndim == 2 and segments[-1] == "weight" and not tensor.is_nested
        if linear and not _BACKBONES.isdisjoint(segments) and not is_average(segments[0]):
            yield ".".join(segments), tensor.shape[1]


class NonHeadTensors:
    """Recognizer of the tensors that do not belong to the heads of one state dict."""

    def __init__(self, heads: Mapping[str, Tensor], is_head: Callable[[str], bool]) -> None:
        """Record the names and shapes of the heads' tensors; averages have copies of them.

        Args:
            heads: tensors by name.
            is_head: returns whether a name is one of a head's tensors.
        """
        self._shapes: dict[str, set[tuple[int, ...]]] = {}
        for name, tensor in heads.items():
            for tail in _tails(name):
                if is_head(tail) and not tensor.is_nested:
                    for spelling in (tail, tail.replace(".", "")):  # averages of Lightning modules: without dots
                        self._shapes.setdefault(spelling, set()).add(tuple(tensor.shape))

    def group(self, name: str, tensor: Tensor) -> str | None:
        """Return the group of a tensor that does not belong to a head, such as ``base_model.*``, or None."""
        segments = name.split(".")
        for index, segment in enumerate(segments, start=1):
            if _is_non_head_segment(segment):
                if not self._fits_key(segment, segments[index:], tensor):
                    return None
                return ".".join(segments[:index]) + (".*" if index < len(segments) else "")
        return None

    def strays(self, key: str, value: object) -> tuple[int, list[str]]:
        """Return the number of tensors in an entry outside the state dict, and those that may belong to the model."""
        tensors = list(_tensors_of(value))
        if key in _BACKBONES:
            return len(tensors), []
        expected = is_average_or_training(key)
        strays = []
        for path, tensor in tensors:
            alone = not path and tensor.ndim == 0  # a number: an accuracy, a step
            if not alone and not (expected and self._fits_key(key, path, tensor)):
                strays.append(".".join([key, *path]))
        return len(tensors), strays

    def _fits_key(self, key: str, path: Sequence[str], tensor: Tensor) -> bool:
        """Return whether a tensor fits the meaning of a key: a copy of a head's, not the weights of a further layer."""
        if not _BACKBONES.isdisjoint([key, *path]) or self._is_copy(path, tensor):
            return True
        label = path[-1] if path else key
        if is_average(key) and not _is_training_name(key):
            counts = tensor.numel() == 1 and _COUNTS.fullmatch(label) is not None
            return counts or self._is_listed(path, tensor)
        # An optimizer's tensors have the shapes of weights, but not their names.
        return not (_WEIGHTS.fullmatch(label) and tensor.ndim > 1 and tensor.is_floating_point())

    def _is_copy(self, path: Sequence[str], tensor: Tensor) -> bool:
        tails = [] if tensor.is_nested else _tails(".".join(path))
        return any(tuple(tensor.shape) in self._shapes.get(tail, ()) for tail in tails)

    def _is_listed(self, path: Sequence[str], tensor: Tensor) -> bool:
        """Return whether a tensor is in a list of averages (torch_ema), which has no names."""
        listed = len(path) > 1 and path[-1].isdecimal() and path[-2].endswith("params") and not tensor.is_nested
        return listed and any(tuple(tensor.shape) in shapes for shapes in self._shapes.values())


def _is_non_head_segment(segment: str) -> bool:
    return segment in _BACKBONES or is_average(segment) or _is_training_name(segment)


def _is_training_name(key: str) -> bool:
    return _TRAINING_NAME.fullmatch(key) is not None


def _tails(name: str) -> Iterator[str]:
    """Yield the last segment of a name, the last two, and so on, up to the longest possible name of a head."""
    segments = name.split(".")
    for count in range(1, min(len(segments), _MOST_SEGMENTS) + 1):
        yield ".".join(segments[-count:])


def _tensors_of(value: object) -> Iterator[tuple[list[str], Tensor]]:
    """Yield the tensors in nested dictionaries, lists and inert objects, with the last segments of their paths."""
    waiting: list[tuple[list[str], object]] = [([], value)]
    visited = set()
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, Tensor):
            yield path, value
        elif isinstance(value, Mapping | list | tuple | set | deque | Inert) and id(value) not in visited:
            visited.add(id(value))
            pairs = value.contents() if isinstance(value, Inert) else enumerate(value)
            items: Iterable[tuple[object, object]] = value.items() if isinstance(value, Mapping) else pairs
            parents = path[-_MOST_PATH:]
            waiting += [([*parents, *unwrapped(str(key)).split(".")], each) for key, each in items]
