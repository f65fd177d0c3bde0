"""Random generators that code in this process can draw from: the global ones, and those that a module holds.

Code that draws moves the state of a generator. Reading the states takes 0.1 ms.
"""

from __future__ import annotations

import pickle
import random
from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

Generator = torch.Generator | np.random.Generator | np.random.RandomState | random.Random


def own_generators(module: nn.Module) -> dict[str, Generator]:
    """Return the generators that a module or one of its parts holds as an attribute, by their names in messages."""
    return {
        f"its own generator ({key:.40})": value
        for part in module.modules()
        for key, value in vars(part).items()
        if isinstance(value, Generator) and not isinstance(value, random.SystemRandom)
    }


def generator_states(device: torch.device, own: Mapping[str, Generator]) -> dict[str, object]:
    """Return the states of the global generators and of others, by their names in messages.

    Args:
        device: device of the modules; a GPU has a generator, too.
        own: others (`own_generators`).
    """
    states: dict[str, object] = {
        "numpy's global generator": pickle.dumps(np.random.get_state(legacy=False)),
        "torch's global generator": torch.get_rng_state().numpy().tobytes(),
        "Python's random": random.getstate(),
    }
    if device.type == "cuda":
        states["torch's generator of the GPU"] = torch.cuda.get_rng_state(device).numpy().tobytes()
    return states | {name: _state(generator) for name, generator in own.items()}


def moved_generators(before: Mapping[str, object], after: Mapping[str, object]) -> list[str]:
    """Return the names of the generators whose states differ between two calls of `generator_states`."""
    return [name for name, state in after.items() if state != before.get(name)]


def _state(generator: Generator) -> object:
    """Return the state of a generator."""
    if isinstance(generator, torch.Generator):
        return generator.get_state().numpy().tobytes()
    if isinstance(generator, np.random.Generator):
        return pickle.dumps(generator.bit_generator.state)
    if isinstance(generator, np.random.RandomState):
        return pickle.dumps(generator.get_state(legacy=False))
    return generator.getstate()
