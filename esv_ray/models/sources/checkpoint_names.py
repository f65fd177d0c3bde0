"""What of a checkpoint is beside the heads: averages of the weights, what a training saves, backbones.

A name alone tells little: `ema` is an average of the weights or Efficient Multi-scale Attention. So an average must be
a copy: names and shapes of the heads. What is called as of a training must not be the weights of a layer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from torch import Tensor

# Segments that wrappers of modules add to names: DataParallel and DDP, torch.compile, FSDP, activation checkpoints.
_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
# Averages of the weights over the training: a copy of the model, of which the trained weights are the ones meant.
_AVERAGES = re.compile(r"(?:\w+_)?(?:ema|swa)(?:_\w+)?", re.IGNORECASE)
# Numbers of an average itself.
_COUNTS = re.compile(
    r"(?:\w+_)?(?:averaged|updates?|steps?|decay|initted|counts?|loss|acc)(?:_(?:ema|swa))?", re.IGNORECASE
)
# What a training saves beside the model, and what of a module is after the logits.
_OF_TRAINING = re.compile(
    r"(?:\w+_)?(?:optim|optimizers?|sched|schedulers?|rng|callbacks|loops|criterion|loss|losses|metrics?)"
    r"(?:_(?:states?|state_dicts?|weights?|fn|func|function|history|curve|log|[0-9]+))*|n_averaged|"
    r"(?:train|val|valid|test)_(?:acc|accuracy|f1|top|prec|precision|recall|map|auroc|conf|confmat|confusion)s?[0-9]*"
    r"(?:_\w+)?",
    re.IGNORECASE,
)
# The same as an entry of dictionaries, where no module has such names.
_ENTRY_OF_TRAINING = re.compile(r"(?:\w+_)?(?:optim|optimizers?|sched|schedulers?|rng|callbacks|loops)(?:_\w+)?", re.I)
_MOST_SEGMENTS = 10  # of a head's name
_MOST_KEPT = 50  # of what an entry holds, which may be nested without end
_BACKBONES = {"base_model", "backbone"}
_WEIGHTS = re.compile(r"(?:\w*_)?weights?(?:_\w+)?|kernel|W", re.IGNORECASE)


def unwrapped(name: str) -> str:
    """Return a tensor's name without the segments that wrappers of modules add."""
    return ".".join(segment for segment in name.split(".") if segment not in _WRAPPERS)


def is_average(key: str) -> bool:
    """Whether averages of weights are called so."""
    return _AVERAGES.fullmatch(key) is not None


def is_beside(key: str) -> bool:
    """Whether averages of weights, or what a training saves, are called so, as an entry of a dictionary."""
    return is_average(key) or is_of_training(key)


def is_of_training(key: str) -> bool:
    """Whether what a training saves is called so, as an entry of a dictionary."""
    return _names_training(key) or _ENTRY_OF_TRAINING.fullmatch(key) is not None


def is_marked(name: str) -> bool:
    """Whether a part of a tensor's name says that it is beside the heads."""
    return any(_marks(segment) for segment in name.split("."))


def average_in(names: Iterable[str]) -> str | None:
    """Return the first part of names that averages are called by, or None."""
    return next((segment for name in names for segment in name.split(".") if is_average(segment)), None)


def inputs_in_backbone(name: str, value: object) -> Iterator[tuple[str, int]]:
    """Yield the linear layers of backbones below a name, each with the number of its inputs."""
    for path, tensor in _tensors_of(value):
        segments = [*name.split("."), *path]
        linear = tensor.ndim == 2 and segments[-1] == "weight" and not tensor.is_nested
        if linear and not _BACKBONES.isdisjoint(segments) and not is_average(segments[0]):
            yield ".".join(segments), tensor.shape[1]


class Beside:
    """What is beside the heads of one state dict."""

    def __init__(self, heads: Mapping[str, Tensor], is_head: Callable[[str], bool]) -> None:
        """Take the heads' tensors by name, and what tells such names, under which averages have their copies."""
        self._shapes: dict[str, set[tuple[int, ...]]] = {}
        for name, tensor in heads.items():
            for tail in _tails(name):
                if is_head(tail) and not tensor.is_nested:
                    for spelling in (tail, tail.replace(".", "")):  # averages of Lightning modules: without dots
                        self._shapes.setdefault(spelling, set()).add(tuple(tensor.shape))

    def group(self, name: str, tensor: Tensor) -> str | None:
        """Return the part of a tensor's name that is beside the heads, such as ``base_model.*``, or None."""
        segments = name.split(".")
        for index, segment in enumerate(segments, start=1):
            if _marks(segment):
                if not self._may_be(segment, segments[index:], tensor):
                    return None
                return ".".join(segments[:index]) + (".*" if index < len(segments) else "")
        return None

    def strays(self, key: str, value: object) -> tuple[int, list[str]]:
        """Return how many tensors an entry beside the state dict holds, and which of them may belong to the model."""
        tensors = list(_tensors_of(value))
        if key in _BACKBONES:
            return len(tensors), []
        expected = is_beside(key)
        strays = []
        for path, tensor in tensors:
            alone = not path and tensor.ndim == 0  # a number: an accuracy, a step
            if not alone and not (expected and self._may_be(key, path, tensor)):
                strays.append(".".join([key, *path]))
        return len(tensors), strays

    def _may_be(self, key: str, path: Sequence[str], tensor: Tensor) -> bool:
        """Whether a tensor may be of what the key says: a copy of the heads', no weights of a further layer."""
        if not _BACKBONES.isdisjoint([key, *path]) or self._is_copy(path, tensor):
            return True
        label = path[-1] if path else key
        if is_average(key) and not _names_training(key):
            counts = tensor.numel() == 1 and _COUNTS.fullmatch(label) is not None
            return counts or self._is_listed(path, tensor)
        # An optimizer's numbers have the shapes of weights, not their names.
        return not (_WEIGHTS.fullmatch(label) and tensor.ndim > 1 and tensor.is_floating_point())

    def _is_copy(self, path: Sequence[str], tensor: Tensor) -> bool:
        tails = [] if tensor.is_nested else _tails(".".join(path))
        return any(tuple(tensor.shape) in self._shapes.get(tail, ()) for tail in tails)

    def _is_listed(self, path: Sequence[str], tensor: Tensor) -> bool:
        """Whether it is of a list of averages (torch_ema), which has no names."""
        listed = len(path) > 1 and path[-1].isdecimal() and path[-2].endswith("params") and not tensor.is_nested
        return listed and any(tuple(tensor.shape) in shapes for shapes in self._shapes.values())


def _marks(segment: str) -> bool:
    return segment in _BACKBONES or is_average(segment) or _names_training(segment)


def _names_training(key: str) -> bool:
    return _OF_TRAINING.fullmatch(key) is not None


def _tails(name: str) -> Iterator[str]:
    """Yield the last segment of a name, the last two, and so on: as many as heads' names and their prefixes have."""
    segments = name.split(".")
    for count in range(1, min(len(segments), _MOST_SEGMENTS) + 1):
        yield ".".join(segments[-count:])


def _tensors_of(value: object) -> Iterator[tuple[list[str], Tensor]]:
    """Yield the tensors in nested dictionaries and lists, with the last segments of their names."""
    waiting: list[tuple[list[str], object]] = [([], value)]
    visited = set()
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, Tensor):
            yield path, value
        elif isinstance(value, Mapping | list | tuple | set) and id(value) not in visited:
            visited.add(id(value))
            items = value.items() if isinstance(value, Mapping) else enumerate(value)
            parents = path[-_MOST_KEPT:]
            waiting += [([*parents, *unwrapped(str(key)).split(".")], each) for key, each in items]
