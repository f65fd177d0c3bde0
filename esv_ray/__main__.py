"""The command `esv`, also as ``python -m esv_ray``: handles signals before anything slow is imported."""

from __future__ import annotations

from typing import NoReturn

from esv_ray import signals


def main() -> NoReturn:
    """Run the command and end the process with its exit code."""
    signals.install()
    code: object = 0
    try:
        from esv_ray.cli import main as command  # a third of a second

        signals.started()
        command()
    except SystemExit as end:
        code = end.code
    except BaseException:
        if not signals.was_interrupted():
            raise
        signals.tell_interrupted()
        code = signals.INTERRUPTED
    signals.leave(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
