"""A model folder is the one that was signed off, or it is refused."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from miniml.errors import ModelFolderError
from miniml.files.digests import digest_of
from miniml.model import manifest


@pytest.fixture
def signed(tmp_path: Path) -> Path:
    (tmp_path / "model.safetensors").write_bytes(bytes(range(200)))
    (tmp_path / "config.json").write_text("{}")
    manifest.sign(
        tmp_path,
        data={"fingerprint": "f"},
        arguments={"seed": 1},
        versions={"torch": "2"},
        metrics={"train_loss": 0.5},
    )
    return tmp_path


def test_an_untouched_folder_is_verified_and_its_digest_is_stable(signed: Path) -> None:
    one, two = manifest.verify(signed), manifest.verify(signed)
    assert one.digest == two.digest
    assert one.digest == json.loads((signed / "miniml.json").read_text())["digest"]
    assert sorted(one.files) == ["config.json", "model.safetensors"]


def test_one_flipped_byte_is_found_and_the_file_named(signed: Path) -> None:
    weights = signed / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[100] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ModelFolderError, match=r"model\.safetensors has SHA-256"):
        manifest.verify(signed)


def test_a_folder_signed_as_another_model_is_not_the_expected_one(signed: Path) -> None:
    manifest.require_digest(signed, manifest.read(signed).digest)
    with pytest.raises(ModelFolderError, match="signed off was dddddddddddd"):
        manifest.require_digest(signed, "d" * 64)


def test_a_missing_file_is_named(signed: Path) -> None:
    (signed / "config.json").unlink()
    with pytest.raises(ModelFolderError, match=r"config\.json is missing"):
        manifest.verify(signed)


def test_a_file_that_nobody_signed_is_named(signed: Path) -> None:
    (signed / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelFolderError, match=r"adapter_config\.json is not listed"):
        manifest.verify(signed)


def test_a_file_named_as_the_manifest_in_a_folder_is_one_like_any_other(signed: Path) -> None:
    (signed / "adapter").mkdir()
    (signed / "adapter" / "miniml.json").write_text("{}")
    with pytest.raises(ModelFolderError, match=r"adapter/miniml\.json is not listed"):
        manifest.verify(signed)


def as_link(path: Path, elsewhere: Path) -> None:
    path.symlink_to(elsewhere)


def as_pipe(path: Path, elsewhere: Path) -> None:
    os.mkfifo(path)


def as_socket(path: Path, elsewhere: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound, contextlib.chdir(path.parent):
        bound.bind(path.name)


@pytest.mark.parametrize("make", [as_link, as_pipe, as_socket])
@pytest.mark.parametrize("name", ["more", "config.json", "miniml.json"])
def test_whatever_is_no_regular_file_is_refused(
    name: str, make: Callable[[Path, Path], None], signed: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / name
    if (path := signed / name).exists():
        path.rename(elsewhere)  # A link leads to the very same content; but who says that it will tomorrow?
    else:
        elsewhere.mkdir()
        (elsewhere / "adapter_config.json").write_text("{}")
    make(path, elsewhere)
    with pytest.raises(ModelFolderError, match=r"link|no regular file"):
        manifest.verify(signed)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"../config.json": "0" * 64}, "is no path"),
        ({"config.json": "0"}, "is no SHA-256"),
        ({"miniml.json": "0" * 64}, "lists itself"),
        ([], "files is not an object"),
    ],
)
def test_a_manifest_lists_files_of_its_own_folder(signed: Path, files: Any, message: str) -> None:
    stored = json.loads((signed / "miniml.json").read_text()) | {"files": files}
    stored["digest"] = stored["record"] = digest_of(
        {name: value for name, value in stored.items() if name not in ("digest", "record")}
    )
    (signed / "miniml.json").write_text(json.dumps(stored))
    with pytest.raises(ModelFolderError, match=message):
        manifest.read(signed)


def test_what_is_of_one_run_is_kept_and_checked_and_not_part_of_the_digest(signed: Path) -> None:
    digest = manifest.read(signed).digest
    (signed / "README.md").write_text("trained in 5 s")
    manifest.sign(
        signed,
        data={"fingerprint": "f"},
        arguments={"seed": 1, "used": {"threads": 8}, "training": {"checkpoints": "/here"}},
        versions={"torch": "2"},
        metrics={"train_loss": 0.5, "train_seconds": 5.0},
    )
    other = manifest.verify(signed).digest
    manifest.sign(
        signed,
        data={"fingerprint": "f"},
        arguments={"seed": 1, "used": {"threads": 2}, "training": {"checkpoints": "/there"}},
        versions={"torch": "2"},
        metrics={"train_loss": 0.5, "train_seconds": 9.0},
    )
    assert manifest.verify(signed).digest == other != digest
    (signed / "README.md").write_text("trained in 1 s")
    with pytest.raises(ModelFolderError, match=r"README\.md has SHA-256"):
        manifest.verify(signed)
    path = signed / "miniml.json"
    path.write_text(path.read_text().replace("9.0", "1.0"))
    with pytest.raises(ModelFolderError, match="does not match its own digest"):
        manifest.read(signed)


def test_a_folder_of_an_older_miniml_keeps_the_digest_that_it_was_signed_with(signed: Path) -> None:
    stored = json.loads((signed / "miniml.json").read_text()) | {"format": 1}
    stored["metrics"]["train_seconds"] = 5.0
    content = {name: value for name, value in stored.items() if name not in ("digest", "record")}
    digest = digest_of(content)
    (signed / "miniml.json").write_text(json.dumps({"digest": digest, **content}))
    old = manifest.verify(signed)
    assert old.digest == digest
    manifest.write(signed, old)
    assert manifest.verify(signed) == old


@pytest.mark.parametrize("field", ["data", "arguments", "metrics"])
def test_rewriting_history_is_found(signed: Path, field: str) -> None:
    path = signed / "miniml.json"
    stored = json.loads(path.read_text())
    stored[field] = {"accuracy": 0.99}
    path.write_text(json.dumps(stored))
    with pytest.raises(ModelFolderError, match="does not match its own digest"):
        manifest.verify(signed)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"digest": 1}'])
def test_a_manifest_that_is_none_is_refused(signed: Path, content: str) -> None:
    (signed / "miniml.json").write_text(content)
    with pytest.raises(ModelFolderError, match=r"miniml\.json"):
        manifest.verify(signed)


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFolderError, match=r"has no miniml\.json"):
        manifest.verify(tmp_path)
