"""A small HTTP server that answers as the Hugging Face hub does, over repositories in a folder.

    <root>/datasets/Yelp/yelp_review_full/README.md ...
    <root>/models/google-bert/bert-base-cased/config.json ...

It knows what `datasets`, `huggingface_hub` and `transformers` ask of it, and can be told to fail.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import datasets
import torch
from transformers import BertConfig, BertForMaskedLM

from tests import tiny

COMMIT = "0123456789abcdef0123456789abcdef01234567"
STARS = ("1 star", "2 stars", "3 stars", "4 stars", "5 stars")
_STAR_WORDS = ("awful", "cold", "fine", "tasty", "perfect")


@dataclass
class HubServer:
    """Serves the repositories below `root` on a free port, between `with` and its end."""

    root: Path
    status: int = 200
    """Anything else is answered to every request."""
    hang_on: str = ""
    """Requests whose path holds this are accepted and never answered."""
    asked: list[str] = field(default_factory=list)
    """Method and path of every request so far."""
    released: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> HubServer:
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Requests are kept in `asked`; nothing is printed."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        length = int(self.headers.get("content-length", 0))
        self._body = self.rfile.read(length)
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {path}")
        if self.hub.hang_on and self.hub.hang_on in path:
            self.hub.released.wait()
            self.close_connection = True
            return
        if self.hub.status != 200:
            self._error(self.hub.status)
        elif found := re.fullmatch(r"/api/(datasets|models)/([\w.-]+/[\w.-]+)(/.*)?", path):
            self._api(self.hub.root / found[1] / found[2], found[2], found[3] or "")
        elif found := re.fullmatch(r"/(datasets/)?([\w.-]+/[\w.-]+)/resolve/([^/]+)/(.+)", path):
            self._file(self.hub.root / (found[1] or "models") / found[2], found[3], found[4])
        else:
            self._error(404, "EntryNotFound")

    def _api(self, repository: Path, name: str, rest: str) -> None:
        if not repository.is_dir():
            self._error(404, "RepoNotFound")
            return
        if rest.startswith("/revision/") and rest.split("/")[2] not in ("main", COMMIT):
            self._error(404, "RevisionNotFound")
            return
        paths = sorted(repository.rglob("*"))
        if rest.startswith("/tree/"):
            folder = repository.joinpath(*rest.split("/")[3:])
            everything = "recursive=true" in urlsplit(self.path).query.lower()
            listed = [path for path in paths if folder in (path.parents if everything else [path.parent])]
            self._json([_entry(path, repository) for path in listed])
        elif rest.startswith("/paths-info/"):
            wanted = parse_qs(self._body.decode()).get("paths") or json.loads(self._body)["paths"]
            listed = [path for path in paths if path.relative_to(repository).as_posix() in wanted]
            self._json([_entry(path, repository) for path in listed])
        elif rest == "" or rest.startswith("/revision/"):
            self._json(
                {
                    "id": name,
                    "sha": COMMIT,
                    "private": False,
                    "gated": False,
                    "disabled": False,
                    "tags": [],
                    "downloads": 0,
                    "siblings": [
                        {"rfilename": path.relative_to(repository).as_posix()}
                        for path in paths
                        if path.is_file()
                    ],
                }
            )
        else:
            self._error(404, "EntryNotFound")

    def _file(self, repository: Path, revision: str, name: str) -> None:
        path = repository / name
        if revision not in ("main", COMMIT):
            self._error(404, "RevisionNotFound")
        elif not repository.is_dir():
            self._error(404, "RepoNotFound")
        elif not path.is_file():
            self._error(404, "EntryNotFound")
        else:
            self._bytes(path.read_bytes())

    def _bytes(self, content: bytes) -> None:
        start, end = 0, len(content) - 1
        if found := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("range", "")):
            start, end = int(found[1]), int(found[2] or end)
        part = content[start : end + 1]
        self.send_response(206 if len(part) < len(content) else 200)
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Accept-Ranges", "bytes")
        if len(part) < len(content):
            self.send_header("Content-Range", f"bytes {start}-{start + len(part) - 1}/{len(content)}")
        self._send(part, "application/octet-stream")

    def _json(self, content: Any) -> None:
        self.send_response(200)
        self._send(json.dumps(content).encode(), "application/json")

    def _error(self, status: int, code: str = "") -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self._send(b'{"error": "as told"}', "application/json")

    def _send(self, content: bytes, kind: str) -> None:
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _entry(path: Path, repository: Path) -> dict[str, Any]:
    content = path.read_bytes() if path.is_file() else b""
    return {
        "type": "file" if path.is_file() else "directory",
        "path": path.relative_to(repository).as_posix(),
        "size": len(content),
        "oid": hashlib.sha1(content).hexdigest(),
    }


def _review(stars: int, number: int) -> str:
    """Words in an order of its own, or the transform stage would rightly take reviews for copies of each other."""
    words = [
        *["the", "food", "was", "and", "we", "found", "staff", "place", "it", "very"],
        *[_STAR_WORDS[stars]] * 2,
        str(number),
    ]
    random.Random(number).shuffle(words)
    return " ".join(words)


def write_yelp(root: Path, train_rows: int = 300, test_rows: int = 100) -> None:
    """`Yelp/yelp_review_full` as the hub has it, with few and made-up rows."""
    repository = root / "datasets" / "Yelp" / "yelp_review_full"
    folder = repository / "yelp_review_full"
    folder.mkdir(parents=True)
    features = datasets.Features(
        {"label": datasets.ClassLabel(names=list(STARS)), "text": datasets.Value("string")}
    )
    for split, first, rows in (("train", 0, train_rows), ("test", train_rows, test_rows)):
        numbers = range(first, first + rows)
        table = datasets.Dataset.from_dict(
            {
                "label": [n % 5 for n in numbers],
                "text": [_review(n % 5, n) for n in numbers],
            },
            features=features,
        )
        table.to_parquet(folder / f"{split}-00000-of-00001.parquet")
    (repository / "README.md").write_text(
        "---\n"
        "configs:\n"
        "- config_name: yelp_review_full\n"
        "  default: true\n"
        "  data_files:\n"
        "  - split: train\n"
        "    path: yelp_review_full/train-*\n"
        "  - split: test\n"
        "    path: yelp_review_full/test-*\n"
        "---\n"
        "# Made-up reviews\n"
    )


def write_bert(root: Path) -> None:
    """`google-bert/bert-base-cased` as the hub has it (a masked language model), but tiny and random."""
    repository = root / "models" / "google-bert" / "bert-base-cased"
    repository.mkdir(parents=True)
    torch.manual_seed(0)
    tokenizer = tiny.write_tokenizer(repository, max_length=512)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=512,
    )
    BertForMaskedLM(config).save_pretrained(repository)
