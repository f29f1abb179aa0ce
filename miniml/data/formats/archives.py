"""Unpacks zip and gzip files safely: under names of our own, and up to a limit of size.

A member's name never becomes a path, since it may be /etc/passwd or the same as in another archive.
"""

from __future__ import annotations

import gzip
import lzma
import zipfile
import zlib
from pathlib import Path
from typing import IO

from miniml.data.formats.source_file import SourceFile
from miniml.errors import InputError
from miniml.escaping import shown
from miniml.files.folders import require_room

ARCHIVES = (".zip", ".gz")
# Texts are packed to a tenth of their size, repetitive logs to a hundredth, bombs to a thousandth.
MAX_TIMES = 200
# The number of bytes that any archive may unpack to.
FREE = 64 << 20
_DAMAGE = (zipfile.BadZipFile, gzip.BadGzipFile, EOFError, zlib.error, lzma.LZMAError, NotImplementedError)


def unpacked(archive: SourceFile, wanted: tuple[str, ...], folder: Path) -> list[SourceFile]:
    """Unpacks the data files of an archive, and returns all its files.

    Args:
        archive: The archive.
        wanted: The suffixes of the files to unpack; the other files are only named in the result.
        folder: The folder to unpack to, which must not exist.

    Raises:
        InputError: The archive is damaged, has a password, is packed by an unknown method, or is a bomb.
        StorageError: The disk has no room for the files.
        OSError: The disk fails.
    """
    folder.mkdir(parents=True)
    try:
        if archive.suffix == ".zip":
            return _of_zip(archive, wanted, folder)
        target = folder / Path(archive.path.stem).with_stem("0").name
        with gzip.open(archive.path) as packed:
            _copy(packed, target, archive)
        return [SourceFile(target, archive.name[: -len(".gz")])]
    except _DAMAGE as error:
        raise _damaged(archive, error) from error
    except OSError as error:
        if error.errno:  # An error of the disk; bz2 raises OSError without a number for damaged data.
            raise
        raise _damaged(archive, error) from error


def _of_zip(archive: SourceFile, wanted: tuple[str, ...], folder: Path) -> list[SourceFile]:
    with zipfile.ZipFile(archive.path) as opened:
        members = [member for member in opened.infolist() if not member.is_dir()]
        chosen = [member for member in members if Path(member.filename).suffix.lower() in wanted]
        for member in chosen:
            _require_readable(member, archive)
        size = sum(member.file_size for member in chosen)
        _require_bounded(size, archive)
        require_room(folder, size, f"unpacking {archive.name}")
        files = [SourceFile(Path(each.filename), each.filename) for each in members if each not in chosen]
        for number, member in enumerate(chosen):
            target = folder / f"{number}{Path(member.filename).suffix.lower()}"
            with opened.open(member) as packed:
                _copy(packed, target, archive)
            files.append(SourceFile(target, member.filename.replace("\\", "/")))
    return files


def _require_readable(member: zipfile.ZipInfo, archive: SourceFile) -> None:
    if member.flag_bits & 1:
        raise InputError(
            f"{archive.name} has a password (on {shown(member.filename)}). Unpack it, and give the files, or pack them "
            f"again without one."
        )
    if member.compress_type not in (
        zipfile.ZIP_STORED,
        zipfile.ZIP_DEFLATED,
        zipfile.ZIP_BZIP2,
        zipfile.ZIP_LZMA,
    ):
        method = zipfile.compressor_names.get(member.compress_type, f"method {member.compress_type}")  # type: ignore[attr-defined]
        raise InputError(
            f"{archive.name} packs {shown(member.filename)} by {method}, which Python cannot unpack. Pack it again by "
            f"the usual method (deflate): zip {Path(archive.name).name} FILE."
        )


def _require_bounded(size: int, archive: SourceFile) -> None:
    packed = archive.path.stat().st_size
    if size > FREE + MAX_TIMES * packed:
        raise InputError(
            f"{archive.name} has {packed / 1e6:,.1f} MB and unpacks to more than {MAX_TIMES} times as much, as "
            f"bombs do, but no texts. If you trust it, unpack it and give the files."
        )


def _copy(packed: IO[bytes] | gzip.GzipFile, target: Path, archive: SourceFile) -> None:
    size = 0
    with target.open("wb") as plain:
        while block := packed.read(1 << 20):
            size += len(block)
            _require_bounded(size, archive)
            plain.write(block)


def _damaged(archive: SourceFile, error: BaseException) -> InputError:
    return InputError(
        f"{archive.name} cannot be unpacked ({str(error)[:200]}). Was it copied or downloaded completely? Pack it "
        f"again, or give the files."
    )
