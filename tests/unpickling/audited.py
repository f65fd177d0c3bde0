"""Unpickle files under an audit hook: ``python -m tests.unpickling.audited FILE...``.

Prints a JSON object: of each file what the interpreter reported while it was read, and what was made of it. It is a
process of its own, since audit hooks cannot be removed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from esv_ray.unpickling import unpickle


def main(paths: list[str]) -> None:
    contents = {path: Path(path).read_bytes() for path in paths}
    torch.frombuffer(bytearray(4), dtype=torch.uint8).view(torch.float32)
    events: list[str] = []
    listening = False

    def hook(event: str, arguments: object) -> None:
        if listening:
            events.append(f"{event} {arguments!r}"[:200])

    sys.addaudithook(hook)
    results = {}
    for path, data in contents.items():
        modules, listening = set(sys.modules), True
        try:
            outcome = type(unpickle(data)).__name__
        except ValueError as error:
            outcome = f"ValueError: {error}"
        listening = False
        results[path] = {"events": [*events], "outcome": outcome, "modules": sorted(set(sys.modules) - modules)}
        events.clear()
    print(json.dumps(results))


if __name__ == "__main__":
    main(sys.argv[1:])
