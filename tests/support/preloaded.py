"""`esv ...` in processes of their own, forked from one that has imported the slow modules.

A new interpreter spends four seconds of a core on importing torch and its like, before the command does anything that a
test looks at. `python -m tests.support.preloaded` imports them once and forks for each command. The child then runs the
module `esv_ray` as `python -m esv_ray` does. Tests of the start itself begin a new interpreter.
"""

from __future__ import annotations

import atexit
import faulthandler
import gc
import importlib
import json
import os
import resource
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NoReturn

ROOT = Path(__file__).parents[2]
DUMP = signal.SIGUSR1
"""A signal at which a command prints what its threads are doing."""
_STANDARD_FILES = 3
_MOST_BYTES = 1 << 18
_MODULES = (
    "esv_ray.cli",
    "esv_ray.attribution.work",
    "esv_ray.output.verify.output",
    "esv_ray.training.work",
    "esv_ray.analysis.database",
    "s3fs",
    "tests.support.job_factories",
)


class Process:
    """A command that was forked; the part of `subprocess.Popen` that tests use.

    Attributes:
        pid: process id, also of its session.
        returncode: exit code; negative for a signal; None while it runs.
        stdout, stderr: pipes, unless they were set.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        program: str | None = None,
    ) -> None:
        """Start `esv ARGUMENTS`.

        Args:
            arguments: of the command.
            program: Python code to run in place of the command, as `python -c` does.
            environment: the whole environment; None: that of this process.
            cwd: working directory; None: that of this process.
            stdout, stderr: file descriptors, or `subprocess.STDOUT`; None: a pipe.
        """
        self.args = ["esv", *arguments]
        self.returncode: int | None = None
        self.stdout: IO[str] | None = None
        self.stderr: IO[str] | None = None
        ours = []  # ends of pipes that the command writes to
        if stdout is None:
            stdout, self.stdout = _pipe()
            ours.append(stdout)
        if stderr is None:
            stderr, self.stderr = _pipe()
            ours.append(stderr)
        files = [stdout, stdout if stderr == subprocess.STDOUT else stderr]
        self._state, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        request = {
            "arguments": list(arguments),
            "environment": dict(os.environ if environment is None else environment),
            "cwd": str(cwd or Path.cwd()),
            "program": program,
        }
        with Path(os.devnull).open() as nothing, theirs:
            socket.send_fds(_server(), [json.dumps(request).encode()], [nothing.fileno(), *files, theirs.fileno()])
        for end in ours:
            os.close(end)
        self.pid = int(self._state.recv(64))

    def poll(self) -> int | None:
        """Return the exit code if it has ended."""
        return self._ended(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end."""
        code = self._ended(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        return code

    def _ended(self, timeout: float | None) -> int | None:
        if self.returncode is None:
            self._state.settimeout(timeout)
            try:
                told = self._state.recv(64)
            except (BlockingIOError, TimeoutError):
                return None
            assert told, "the process that forks commands has ended"
            self.returncode = int(told)
            self._state.close()
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Return the rest of standard output and error, once both are closed and it has ended."""
        deadline = None if timeout is None else time.monotonic() + timeout
        texts = {"stdout": "", "stderr": ""}

        def read(name: str, pipe: IO[str]) -> None:
            with pipe:
                texts[name] = pipe.read()

        pipes = [(name, pipe) for name in texts if (pipe := getattr(self, name)) is not None]
        readers = [threading.Thread(target=read, args=pair, daemon=True) for pair in pipes]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(_left(deadline))
            if reader.is_alive():
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        self.wait(_left(deadline))
        return texts["stdout"], texts["stderr"]

    def send_signal(self, sign: int) -> None:
        """Send it a signal unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, sign)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pipe in (self.stdout, self.stderr):
            if pipe is not None:
                pipe.close()
        self.wait()


def run(
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
    timeout: float = 240.0,
    program: str | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run `esv ARGUMENTS`, or a program in its place, and return what `subprocess.run` would."""
    process = Process(arguments, environment=environment, cwd=cwd, program=program)
    try:
        out, err = process.communicate(timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return subprocess.CompletedProcess(process.args, process.wait(), out, err)


def _pipe() -> tuple[int, IO[str]]:
    reader, writer = os.pipe()
    return writer, os.fdopen(reader, encoding="utf-8")


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())


# The process that forks -----------------------------------------------------------------------------------------------


_started: list[tuple[subprocess.Popen[bytes], socket.socket]] = []


def _server() -> socket.socket:
    """Return the way to the process that forks; a new one if a test ended it. It ends when this one does."""
    if not _started or _started[-1][0].poll() is not None:
        _started.append(_start())
    return _started[-1][1]


def _start() -> tuple[subprocess.Popen[bytes], socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _MOST_BYTES)
    command = [sys.executable, "-m", "tests.support.preloaded", str(theirs.fileno())]
    process = subprocess.Popen(command, cwd=ROOT, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
    theirs.close()

    def stop() -> None:
        ours.close()
        process.wait()

    atexit.register(stop)
    return process, ours


def _serve(door: socket.socket) -> None:
    """Fork for each request, and tell the exit code of each child where its request said."""
    running: dict[int, tuple[int, socket.socket]] = {}  # by pidfd
    with selectors.DefaultSelector() as selector:
        selector.register(door, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is not door:
                    selector.unregister(key.fd)
                    pid, state = running.pop(key.fd)
                    os.close(key.fd)
                    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                    with state:
                        _tell(state, code)
                    continue
                message, files, _, _ = socket.recv_fds(door, _MOST_BYTES, _STANDARD_FILES + 1)
                if not message:
                    return
                state = socket.socket(fileno=files.pop())
                pid = os.fork()
                if pid == 0:
                    _become(json.loads(message), files)
                for file in files:
                    os.close(file)
                _tell(state, pid)
                handle = os.pidfd_open(pid)
                running[handle] = pid, state
                selector.register(handle, selectors.EVENT_READ)


def _tell(state: socket.socket, number: int) -> None:
    try:
        state.send(str(number).encode())
    except BrokenPipeError:  # nobody waits for it any more
        return


def _become(request: Mapping[str, Any], files: Sequence[int]) -> NoReturn:
    """Turn this child into the command."""
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for place, file in enumerate(files):
            os.dup2(file, place)
        os.closerange(_STANDARD_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        sys.stdin, sys.stdout = open(0), open(1, "w", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
        faulthandler.register(DUMP, file=2, all_threads=True)
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["environment"])
        sys.path[:1] = [request["cwd"], *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        sys.argv = ["esv", *request["arguments"]]
        if request["program"] is None:
            runpy.run_module("esv_ray", run_name="__main__", alter_sys=True)
        else:
            exec(request["program"], {"__name__": "__main__"})
        code = 0
    except SystemExit as ended:
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
        code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main() -> None:
    """Import, then fork for each request until the other end of the socket is closed."""
    for name in _MODULES:
        importlib.import_module(name)
    assert "ray" not in sys.modules, "it reads its environment when it is imported"
    gc.collect()
    gc.freeze()
    _serve(socket.socket(fileno=int(sys.argv[1])))


if __name__ == "__main__":
    main()
