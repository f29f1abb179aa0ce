"""A small HTTP server that answers as the Hugging Face hub does, over repositories in a folder.

    <root>/datasets/Yelp/yelp_review_full/README.md ...
    <root>/models/google-bert/bert-base-cased/config.json ...

It knows what `datasets`, `huggingface_hub` and `transformers` ask of it, and can be told to fail.
"""

from __future__ import annotations

import functools
import hashlib
import json
import random
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import datasets
import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertForPreTraining, BertTokenizer

from benchmarks.reviews import FEATURES, card
from tests import tiny

COMMIT = "0123456789abcdef0123456789abcdef01234567"
_PIECE = 1 << 20
_WIDTH = 160
_STAR_WORDS = ("awful", "cold", "fine", "tasty", "perfect")


@dataclass
class HubServer:
    """Serves the repositories below `root` on a free port, between `with` and its end."""

    root: Path
    status: int = 200
    """Anything else is answered to every request."""
    hang_on: str = ""
    """Requests whose path holds this are accepted and never answered."""
    commit: str = COMMIT
    """What `main` is of every repository."""
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
        if rest.startswith("/revision/") and rest.split("/")[2] not in ("main", self.hub.commit):
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
                    "sha": self.hub.commit,
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
        if revision not in ("main", self.hub.commit):
            self._error(404, "RevisionNotFound")
        elif not repository.is_dir():
            self._error(404, "RepoNotFound")
        elif not path.is_file():
            self._error(404, "EntryNotFound")
        else:
            self._part(path)

    def _part(self, path: Path) -> None:
        """A file, or the range of it that was asked for, a piece after the other: it may be larger than memory."""
        size = path.stat().st_size
        start, end = 0, size - 1
        if found := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("range", "")):
            start, end = int(found[1]), min(int(found[2] or end), end)
        length = end + 1 - start
        self.send_response(206 if length < size else 200)
        self.send_header("ETag", f'"{_sha1(path)}"')
        self.send_header("X-Repo-Commit", self.hub.commit)
        self.send_header("Accept-Ranges", "bytes")
        if length < size:
            self.send_header("Content-Range", f"bytes {start}-{end}/{size}")
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command != "HEAD":
            with path.open("rb") as file:
                file.seek(start)
                while length > 0 and (piece := file.read(min(length, _PIECE))):
                    self.wfile.write(piece)
                    length -= len(piece)

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


@functools.cache
def _sha1(path: Path) -> str:
    """Of a file that does not change while it is served."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha1").hexdigest()


def _entry(path: Path, repository: Path) -> dict[str, Any]:
    a_file = path.is_file()
    return {
        "type": "file" if a_file else "directory",
        "path": path.relative_to(repository).as_posix(),
        "size": path.stat().st_size if a_file else 0,
        "oid": _sha1(path) if a_file else "",
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
    for split, first, rows in (("train", 0, train_rows), ("test", train_rows, test_rows)):
        numbers = range(first, first + rows)
        table = datasets.Dataset.from_dict(
            {
                "label": [n % 5 for n in numbers],
                "text": [_review(n % 5, n) for n in numbers],
            },
            features=FEATURES,
        )
        table.to_parquet(folder / f"{split}-00000-of-00001.parquet")
    (repository / "README.md").write_text(card({"train": train_rows, "test": test_rows}))


def write_bert(root: Path, words: Sequence[str] = tiny.WORDS, known: Sequence[Sequence[str]] = ()) -> None:
    """`google-bert/bert-base-cased` as the hub has it, a masked language model in files of its age, but tiny.

    Its vocabulary has `words` beside single characters. Its weights are random but for `known`, groups of words that
    it tells from each other, as a pretrained model does; fine-tuning has only to give them names.
    """
    repository = root / "models" / "google-bert" / "bert-base-cased"
    repository.mkdir(parents=True)
    vocabulary = _cased_vocabulary([*words, *(word for group in known for word in group)])
    number_of = {word: number for number, word in enumerate(vocabulary)}
    tokenizer = BertTokenizer(vocab=number_of, do_lower_case=False, model_max_length=512)
    tokenizer.backend_tokenizer.save(str(repository / "tokenizer.json"))
    (repository / "tokenizer_config.json").write_text('{"do_lower_case": false, "model_max_length": 512}')
    (repository / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    config = _bert_config(len(vocabulary))
    (repository / "config.json").write_text(json.dumps(config, indent=2))
    torch.manual_seed(0)
    model = BertForPreTraining(BertConfig(**config))
    _teach(model.bert, [[number_of[word] for word in group] for group in known])
    # Names as they were when the file was made.
    weights = {
        re.sub(
            r"LayerNorm\.bias$", "LayerNorm.beta", re.sub(r"LayerNorm\.weight$", "LayerNorm.gamma", name)
        ): value
        for name, value in model.state_dict().items()
        if "position_ids" not in name and "decoder" not in name
    }
    save_file(weights, repository / "model.safetensors", metadata={"format": "pt"})
    # The same in other frameworks' formats, which nobody should fetch.
    for name in ("pytorch_model.bin", "tf_model.h5", "flax_model.msgpack"):
        (repository / name).write_bytes(bytes(1000))


def _cased_vocabulary(words: Sequence[str]) -> list[str]:
    """Special words where that model has them, characters, and then `words`."""
    unused = [f"[unused{number}]" for number in range(1, 100)]
    characters = [chr(number) for number in range(33, 127)]
    pieces = [f"##{character}" for character in characters if character.isalnum()]
    return list(
        dict.fromkeys(["[PAD]", *unused, "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters, *pieces, *words])
    )


def _bert_config(words: int) -> dict[str, Any]:
    return {
        "architectures": ["BertForMaskedLM"],
        "attention_probs_dropout_prob": 0.1,
        "gradient_checkpointing": False,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "hidden_size": _WIDTH,
        "initializer_range": 0.02,
        "intermediate_size": 2 * _WIDTH,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": 512,
        "model_type": "bert",
        "num_attention_heads": 2,
        "num_hidden_layers": 2,
        "pad_token_id": 0,
        "position_embedding_type": "absolute",
        "transformers_version": "4.6.0.dev0",
        "type_vocab_size": 2,
        "use_cache": True,
        "vocab_size": words,
    }


@torch.no_grad()
def _teach(bert: Any, known: list[list[int]]) -> None:
    """Gives the words of each group a share of the width for themselves, and has every layer pass the mean word on."""
    if not known:
        return
    share = _WIDTH // len(known)
    for group, numbers in enumerate(known):
        bert.embeddings.word_embeddings.weight[numbers, group * share : (group + 1) * share] += 1.0
    for layer in bert.encoder.layer:
        layer.attention.self.value.weight += 2 * torch.eye(_WIDTH)
        layer.attention.output.dense.weight += 2 * torch.eye(_WIDTH)
    bert.pooler.dense.weight += torch.eye(_WIDTH)
