"""torchvision beside a CPU build of torch.

PyPI's wheels of torchvision are built for torch with CUDA: beside a CPU build their library of operators cannot be
loaded, and `import torchvision` fails for lack of two operators. Models and their preparation of images use neither.
"""

from __future__ import annotations

import importlib
import sys

import torch

_OPERATORS = ("nms", "qnms")
_KEPT: list[torch.library.Library] = []  # an operator goes when its library is collected


def import_torchvision() -> bool:
    """Import torchvision, with its missing operators declared; return whether it is installed."""
    try:
        importlib.import_module("torchvision")
    except ImportError:
        return False
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
        for name in _OPERATORS:
            schema = f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            library.define(schema)  # type: ignore[no-untyped-call]
        _KEPT.append(library)
        importlib.import_module("torchvision")
    return True
