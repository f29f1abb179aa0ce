"""A bucket of the store that the environment names: the few requests that miniml makes of it.

Requests are repeated, with growing pauses, where the connection failed or the server did (5xx), for a bounded
time; whatever else goes wrong is said at once, in words that name the thing and the remedy.
"""

from __future__ import annotations

import io
import itertools
import math
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO, Protocol, cast
from urllib.parse import urlsplit
from xml.etree.ElementTree import ParseError

import certifi
import urllib3
from minio import Minio
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
    SSLError,
)

from miniml.errors import MinimlError, StoreError, StoreUnavailableError
from miniml.store import credentials

AWS = "https://s3.amazonaws.com"

CONNECT_TIMEOUT = 3.0
"""Seconds."""
READ_TIMEOUT = 30.0
"""Seconds without a byte; S3 may take its time to put a large object together."""

MAX_LISTED = 100_000
"""Objects in a listing: more are named by a folder of their own, or the listing has no end."""
PAGES_LISTED = 2 * MAX_LISTED // 1000
"""Answers that a listing may take, for one of them may hold less than the 1,000 objects that it could."""
BYTES_READ_WHOLE = 64 * 2**20
"""Of an answer, or an object, that is read as a whole: a page of a listing, a manifest of some 300,000 files."""

LOST = (NewConnectionError, ConnectTimeoutError, ReadTimeoutError, ProtocolError)
"""What may go well when it is tried again."""

_WRONG_CREDENTIALS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidClientTokenId"}
_EXPIRED = {"ExpiredToken", "InvalidToken", "TokenRefreshRequired"}
_WRONG_REGION = {"AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException"}


@dataclass(frozen=True)
class Patience:
    """Seconds after which a store that does not answer is given up."""

    first: float = 10.0
    """Before it has ever answered: on a person's machine its address is most likely wrong, and nothing is lost by
    saying so soon."""
    later: float = 60.0
    """Once it has answered: a restarting pod is back within a minute."""


# A pod was given its address with its secret; there it is the store that is away.
PATIENCE = Patience(first=60.0) if "KUBERNETES_SERVICE_HOST" in os.environ else Patience()


class Attempts:
    """Waits between attempts: 0.25 s, and twice as long each time, give or take a half, 5 s at most."""

    def __init__(self, limit: float) -> None:
        self._end = time.monotonic() + limit
        self._pause = 0.25

    def wait(self) -> bool:
        """False, at once, if the next attempt would come after the limit."""
        # Many stages that lost the same server should not all come back in the same moment.
        pause = self._pause * random.uniform(0.5, 1.5)  # noqa: S311  # no secret is made of it
        if time.monotonic() + pause > self._end:
            return False
        time.sleep(pause)
        self._pause = min(2 * self._pause, 5.0)
        return True


@dataclass(frozen=True)
class Endpoint:
    """Where the store is."""

    url: str
    region: str | None
    """None lets Amazon say it."""

    @classmethod
    def from_environment(cls) -> Endpoint:
        """AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL or S3_ENDPOINT (plain if S3_USE_HTTPS is 0), and otherwise Amazon's.

        Raises:
            StoreError: it is no endpoint.
        """
        names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "S3_ENDPOINT")
        name = next((name for name in names if os.environ.get(name)), "")
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        if not name:
            return cls(AWS, region)
        url = os.environ[name].rstrip("/")
        if "://" not in url:
            plain = os.environ.get("S3_USE_HTTPS", "1").lower() in ("0", "false")
            url = f"{'http' if plain else 'https'}://{url}"
        split = urlsplit(url)
        if "@" in url:
            raise StoreError(
                f"{name} holds an '@', as an address with credentials does; it is not repeated here. "
                f"Leave them out. {credentials.REMEDY}."
            )
        if split.scheme not in ("http", "https") or not split.hostname or split.path or split.query:
            raise StoreError(f"{name} is {url!r}; it reads http(s)://host:port, with nothing behind it.")
        # Other stores than Amazon's have no regions, but a signature has to name one.
        return cls(url, region or "us-east-1")


@dataclass(frozen=True)
class Stored:
    """An object in a listing, or a folder of them, whose key then ends in a slash."""

    key: str
    size: int
    etag: str
    modified: datetime | None


class Readable(Protocol):
    """All that is asked of what is sent."""

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes, or the rest; none at the end."""


class Bucket:
    """One bucket. `asked` (an argument and its value, or an address) begins every message.

    Raises:
        StoreError: the environment names no usable endpoint or credentials.
    """

    def __init__(self, name: str, asked: str, patience: Patience) -> None:
        self.name, self.asked, self.patience = name, asked, patience
        self.endpoint = Endpoint.from_environment()
        self._provider, self._where = credentials.find(on_aws=self.endpoint.url == AWS)
        self._transport = _Transport(self.patience, {})
        self._client = self._connect(self._transport)
        self._client_that_overwrites_nothing = self._connect(
            _Transport(self.patience, {"If-None-Match": "*"})
        )

    def __repr__(self) -> str:
        return f"Bucket({self.name!r} at {self.endpoint.url})"

    def read(self, key: str) -> bytes | None:
        """A small object as a whole; None if there is none.

        Raises:
            StoreError: it cannot be read, or is no small one.
        """
        attempts = Attempts(self.patience.later)
        while True:
            try:
                with self.stream(key) as (_, response):
                    content = bytes(response.read(BYTES_READ_WHOLE + 1))
                    if len(content) > BYTES_READ_WHOLE:
                        raise self.error(
                            f"the object {key} has more than {BYTES_READ_WHOLE:,} bytes, and is none of miniml's. "
                            f"Remove it."
                        )
                    return content
            except LookupError:
                return None
            except LOST as error:
                if not attempts.wait():
                    raise self.unreachable(error) from error

    @contextmanager
    def stream(self, key: str, offset: int = 0, etag: str = "") -> Iterator[tuple[int, Any]]:
        """The object's bytes from `offset` on, as a response, with the offset from which the server does send them.

        A connection that breaks while they are read raises one of `LOST`.

        Raises:
            LookupError: there is no such object.
            StoreError: it cannot be read, or is not the one with `etag` any more.
        """
        headers: dict[str, str | list[str] | tuple[str]] = {"If-Match": f'"{etag}"'} if etag else {}
        with self._explained("read from it", key):
            response = self._client.get_object(self.name, key, offset=offset, request_headers=headers)
        # One that was read to its end has given its connection back; one that was not has to lose it.
        with closing(response):
            yield offset if response.status == 206 else 0, response

    def size(self, key: str) -> int | None:
        """In bytes; None if there is no such object."""
        try:
            with self._explained("read from it", key):
                return self._client.stat_object(self.name, key).size
        except LookupError:
            return None

    def listing(self, prefix: str) -> list[Stored]:
        """What lies in the bucket under `prefix`, by key.

        Raises:
            StoreError: the store does not say, or its list does not end.
        """
        found = self._listed(prefix, MAX_LISTED + 1, recursive=True)
        if len(found) > MAX_LISTED:
            raise self.error(
                f"under {prefix!r} in bucket {self.name!r} the store lists more than {MAX_LISTED:,} objects, or "
                f"without an end. Give a folder with fewer, or the key of an object."
            )
        return found

    def level(self, prefix: str, most: int = 1000) -> list[Stored]:
        """The first `most` entries under `prefix`, by key, where a folder stands for all that is in it."""
        return self._listed(prefix, most, recursive=False)

    def _listed(self, prefix: str, most: int, *, recursive: bool) -> list[Stored]:
        with self._explained("list it"), self._transport.at_most(PAGES_LISTED):
            found = self._client.list_objects(self.name, prefix, recursive=recursive)
            items = [
                Stored(item.object_name, item.size or 0, item.etag or "", item.last_modified)
                for item in itertools.islice(found, most)
                if item.object_name
            ]
        return sorted(items, key=lambda item: item.key)

    def write(self, key: str, content: bytes) -> None:
        with self._explained("write to it", key):
            self._client.put_object(self.name, key, io.BytesIO(content), len(content))

    def write_once(self, key: str, content: bytes) -> bool:
        """Writes the object unless there is one; False if there is. Of many writers at once, one wins.

        That is the server's doing (If-None-Match): SeaweedFS, MinIO and Amazon S3 do it, one that does not know the
        header overwrites.
        """
        try:
            with self._explained("write to it", key):
                self._client_that_overwrites_nothing.put_object(
                    self.name, key, io.BytesIO(content), len(content)
                )
        except FileExistsError:
            return False
        return True

    def upload(self, key: str, file: Readable, size: int) -> None:
        with self._explained("write to it", key):
            self._client.put_object(self.name, key, cast(BinaryIO, file), size)

    def remove(self, key: str) -> None:
        with self._explained("write to it", key):
            self._client.remove_object(self.name, key)

    def error(self, reason: str) -> StoreError:
        return StoreError(f"{self.asked}: {reason}")

    def _unavailable(self, reason: str) -> StoreError:
        return StoreUnavailableError(f"{self.asked}: {reason}")

    def unreachable(self, error: Exception) -> StoreError:
        reason = str(error).rpartition("object at 0x")[2].partition(">: ")[2] or str(error)
        return self._unavailable(
            f"the store at {self.endpoint.url} cannot be reached ({type(error).__name__}: {reason[:200]}). "
            f"Check the network, that the store runs, and AWS_ENDPOINT_URL."
        )

    def _connect(self, transport: _Transport) -> Minio:
        split = urlsplit(self.endpoint.url)
        try:
            return Minio(
                split.netloc,
                secure=split.scheme == "https",
                region=self.endpoint.region,
                credentials=self._provider,
                http_client=transport,
            )
        except ValueError as error:
            raise self.error(
                f"{self.endpoint.url} in region {self.endpoint.region!r} is no S3 endpoint ({error}). "
                f"Set AWS_ENDPOINT_URL and AWS_REGION."
            ) from error

    @contextmanager
    def _explained(self, right: str, key: str = "") -> Iterator[None]:
        """Turns an error of the client into one of ours; `right` is what one needs to be allowed to.

        Raises:
            LookupError: there is no such object. FileExistsError: there is one already.
            StoreError: anything else.
        """
        try:
            yield
        except (MinimlError, LookupError):
            raise
        except S3Error as error:
            if error.code == "NoSuchKey":
                raise LookupError(key) from error
            # A 409 is what Amazon answers to writers of the same key at the same time.
            if error.code in ("PreconditionFailed", "ConditionalRequestConflict"):
                raise self._condition_failed(right, key) from error
            raise self._refusal(error, right) from error
        except (ServerError, InvalidResponseError) as error:
            status = error.status_code if isinstance(error, ServerError) else error._code
            raise self._answered(status) from error
        except SSLError as error:
            remedy = "Check that its port speaks https; plain ones are http://."
            if "CERTIFICATE" in str(error):
                remedy = "Set AWS_CA_BUNDLE to the file of the authority that signed its certificate."
            raise self.error(f"no encrypted connection to {self.endpoint.url} ({error}). {remedy}") from error
        except (HTTPError, MinioException) as error:
            raise self.unreachable(error) from error
        except _EndlessError as error:
            raise self.error(
                f"the store at {self.endpoint.url} answers without an end. Check AWS_ENDPOINT_URL, and give a folder "
                f"with fewer objects if it has very many."
            ) from error
        except ParseError as error:
            raise self.error(
                f"{self.endpoint.url} answered what no S3 store does ({error}). Check AWS_ENDPOINT_URL."
            ) from error
        except ValueError as error:
            if "header" not in str(error):
                raise self.error(f"bucket {self.name!r} cannot be asked for ({error}).") from error
            # The error quotes the header, and with it the access key.
            raise self.error(
                f"the credentials that come from {self._where} hold a line break or another character that cannot be "
                f"sent. Remove it: echo -n writes a secret without one."
            ) from None

    def _condition_failed(self, right: str, key: str) -> Exception:
        if right == "write to it":
            return FileExistsError(key)
        return self.error(f"{key} was changed in the store while it was being read. Start again.")

    def _refusal(self, error: S3Error, right: str) -> StoreError:
        code, store = error.code or "", f"the store at {self.endpoint.url}"
        if code == "NoSuchBucket":
            return self.error(
                f"{store} has no bucket {self.name!r}{self._buckets()}. Check the spelling, or make it."
            )
        if code in _WRONG_CREDENTIALS:
            return self.error(
                f"{store} does not accept the credentials that come from {self._where} ({code}). "
                f"{credentials.REMEDY}, and check AWS_ENDPOINT_URL."
            )
        if code in _EXPIRED:
            return self.error(
                f"the credentials that come from {self._where} have expired ({code}). Renew them."
            )
        if code in _WRONG_REGION:
            return self.error(f"bucket {self.name!r} is in another region ({error.message}). Set AWS_REGION.")
        if code == "RequestTimeTooSkewed":
            return self.error(f"{store} says that this machine's clock is wrong. Set it.")
        if code == "AccessDenied" and self._provider is None:
            return self.error(
                f"{store} wants credentials for bucket {self.name!r}, and none were found. {credentials.REMEDY}."
            )
        if code in ("AccessDenied", "AllAccessDisabled"):
            return self.error(
                f"the credentials that come from {self._where} do not have the right to {right}: "
                f"bucket {self.name!r} at {self.endpoint.url}. Ask its owner for that right, or use others."
            )
        return self._answered(error.response.status, code)

    def _answered(self, status: int, code: str = "") -> StoreError:
        told = f"{status} {code}".rstrip()
        if status >= 500:
            return self._unavailable(
                f"the store at {self.endpoint.url} answered {told}, and again when asked anew. Try later; its own "
                f"log says why."
            )
        return self.error(
            f"{self.endpoint.url} answered {told}. Check that AWS_ENDPOINT_URL is that of an S3 store."
        )

    def _buckets(self) -> str:
        """The ones that there are, where the credentials may list them."""
        try:
            names = [bucket.name for bucket in self._client.list_buckets()]
        except (MinioException, HTTPError):
            return ""
        return f"; it has: {', '.join(names) or 'none'}"


class _EndlessError(Exception):
    """A store answers with more than is going to be read."""


class _Transport(urllib3.PoolManager):
    """Sends a request until it is answered, while patience lasts. `headers` go with every PUT, unsigned.

    The client has no way of its own to give a PUT a condition, gives every request minutes, and reads whatever comes.
    """

    def __init__(self, patience: Patience, headers: dict[str, str]) -> None:
        super().__init__(
            maxsize=10,
            retries=False,
            cert_reqs="CERT_REQUIRED",
            ca_certs=os.environ.get("AWS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE") or certifi.where(),
        )
        self._patience, self._conditions, self._answered = patience, headers, False
        self._found = False
        """Whether the bucket has been there: it gave or took something."""
        self._left = math.inf
        """Requests that may still be made."""

    @contextmanager
    def at_most(self, requests: int) -> Iterator[None]:
        """Within the block, any further request raises `_EndlessError`."""
        self._left = requests
        try:
            yield
        finally:
            self._left = math.inf

    def urlopen(  # type: ignore[override]  # PoolManager's own is typed by what it passes on
        self, method: str, url: str, redirect: bool = True, **options: Any
    ) -> urllib3.BaseHTTPResponse:
        if method == "PUT":
            options["headers"].update(self._conditions)
        if self._left <= 0:
            raise _EndlessError
        self._left -= 1
        whole = options.pop("preload_content", True)
        send: Callable[..., urllib3.BaseHTTPResponse] = super().urlopen
        attempts = Attempts(self._patience.later if self._answered else self._patience.first)
        while True:
            wait = READ_TIMEOUT if self._answered else min(READ_TIMEOUT, self._patience.first)
            options["timeout"] = urllib3.Timeout(connect=CONNECT_TIMEOUT, read=wait)
            try:
                response = send(method, url, redirect, preload_content=False, **options)
                if whole or response.status >= 300:
                    response = _read_whole(response, method)
            except LOST:
                if not attempts.wait():
                    raise
                continue
            # 501 says that the server will never do it.
            fails = response.status >= 500 and response.status != 501
            if not (fails or self._forgot_the_bucket(method, response)) or not attempts.wait():
                self._answered = self._answered or response.status < 500
                self._found = self._found or response.status < 300
                return response

    def _forgot_the_bucket(self, method: str, response: urllib3.BaseHTTPResponse) -> bool:
        """Whether a store that has just started does not know the bucket yet, which it had a while ago.

        (SeaweedFS as KFP installs it: issue 18 §1, a 404 to an upload 35 seconds after the store had restarted.)
        """
        if response.status != 404 or not self._found:
            return False
        return b"NoSuchBucket" in response.data or (method == "PUT" and b"NoSuchUpload" not in response.data)


def _read_whole(response: urllib3.BaseHTTPResponse, method: str) -> urllib3.HTTPResponse:
    """The same answer, out of memory.

    Raises:
        _EndlessError: it is too large for that.
    """
    with closing(response):
        content = response.read(BYTES_READ_WHOLE + 1)
    if len(content) > BYTES_READ_WHOLE:
        raise _EndlessError
    return urllib3.HTTPResponse(
        io.BytesIO(content),
        headers=response.headers,
        status=response.status,
        reason=response.reason,
        decode_content=False,
        enforce_content_length=False,
        request_method=method,
    )
