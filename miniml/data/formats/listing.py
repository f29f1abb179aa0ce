"""Finds the files of a source that hold its rows, and assigns them to splits by their names."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from miniml.data.formats.archives import ARCHIVES, unpacked
from miniml.data.formats.source_file import SourceFile, require_named_format
from miniml.errors import InputError
from miniml.escaping import listed
from miniml.progress import logger

FORMATS = {".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "json", ".parquet": "parquet"}

# Files that describe a dataset.
_ABOUT_DATA = {
    *(
        "dataset_infos.json",
        "dataset_info.json",
        "dataset_dict.json",
        "state.json",
        "metadata.json",
        "croissant.json",
    ),
    *("dataset-metadata.json", "datapackage.json", "package.json", "config.json"),
}
_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
}
# Suffixes of tables and archives that are not read here.
_UNREAD = re.compile(
    r"\.(txt|xlsx?|ods|arrow|feather|orc|avro|pkl|pickle|h5|npz|db|sqlite3?|bz2|xz|zst|lz4|tar|tgz|7z|rar)$",
    re.IGNORECASE,
)
# The words in a name: Test in drugsComTest_raw2, but testimonials is one word. The suffix of testset is removed.
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_OF_DATA = re.compile(r"(?<=.)(set|data|file|split)$")


def files_by_split(source: Path, scratch: Path) -> dict[str, list[SourceFile]]:
    """Returns the files that hold rows, by split. The names of files and folders say which split a file belongs to.

    If no name says "train", all files belong to the training split.

    Args:
        source: A file, an archive or a folder.
        scratch: The folder to which archives are unpacked.

    Raises:
        InputError: There is no data file, they are of several formats, one is empty or damaged, or one is not what its
            name says.
        StorageError: The disk has no room for the unpacked files.
    """
    found = _in_folder(source) if source.is_dir() else [SourceFile(source, source.name)]
    files = [
        each for number, file in enumerate(found) for each in _plain(file, source, scratch / f"{number}")
    ]
    known = [file for file in files if file.suffix in FORMATS and _is_shown(file.name)]
    if len(known) > 1:
        known = [file for file in known if file.name.rpartition("/")[2] not in _ABOUT_DATA] or known
    if not known:
        raise InputError(
            f"it holds no data file; it has: {listed((file.name for file in files), 5) or 'nothing'}. "
            f"Known are {', '.join(FORMATS)}, zipped or gzipped or not."
        )
    if unread := [file.name for file in files if _UNREAD.search(file.name) and _is_shown(file.name)]:
        logger.info(f"left out, of formats that are not read: {listed(unread, 5)}")
    for file in known:
        require_named_format(file)
    if len({FORMATS[file.suffix] for file in known}) > 1:
        suffixes = sorted({file.suffix for file in known})
        raise InputError(
            f"it mixes {' and '.join(suffixes)} files: {listed((file.name for file in known), 5)}. "
            f"Keep one format in the folder, or name one file."
        )
    splits = {split: _with_content(files) for split, files in _by_split(known).items()}
    if len(known) > 1:
        logger.info(
            "; ".join(
                f"{split}: {listed((file.name for file in files), 5)}" for split, files in splits.items()
            )
        )
    return splits


def _in_folder(folder: Path) -> list[SourceFile]:
    """Returns the files below the folder, without hidden ones of editors and systems and unfinished ones."""
    files = [SourceFile(path, path.relative_to(folder).as_posix()) for path in sorted(_walk(folder))]
    hidden = [file.name for file in files if file.suffix in FORMATS and not _is_shown(file.name)]
    if hidden:
        logger.info(f"left out, as they are hidden: {listed(hidden, 5)}")
    return [file for file in files if _is_shown(file.name)]


def _walk(folder: Path) -> Iterator[Path]:
    """Yields all files below the folder, also those of linked folders, but each folder once.

    Raises:
        InputError: A link is broken.
    """
    seen = set()
    for top, folders, names in os.walk(folder, followlinks=True):
        seen.add(os.path.realpath(top))
        folders[:] = [name for name in folders if os.path.realpath(Path(top, name)) not in seen]
        for path in (Path(top, name) for name in names):
            if path.is_symlink() and not path.exists():
                raise InputError(
                    f"{path.relative_to(folder)} is a link that leads nowhere. Fix or remove it."
                )
            if path.is_file():
                yield path


def _is_shown(name: str) -> bool:
    """Tells whether a file is not hidden, as ._train.csv is, or in .ipynb_checkpoints/, __MACOSX/ or _delta_log/."""
    *folders, last = name.split("/")
    return not any(
        each.startswith((".", "_")) and each not in (".", "..") for each in folders
    ) and not last.startswith((".", "~$"))


def _plain(file: SourceFile, source: Path, folder: Path) -> list[SourceFile]:
    """Returns the file itself, or the files in it if it is an archive."""
    if file.suffix not in ARCHIVES:
        return [file]
    require_named_format(file)
    inside = unpacked(file, tuple(FORMATS), folder)
    if file.path == source or file.suffix == ".gz":
        return inside
    return [SourceFile(each.path, f"{file.name}/{each.name}") for each in inside]


def _with_content(files: list[SourceFile]) -> list[SourceFile]:
    """Returns the files that are not empty, as some parts of many may be."""
    filled = [file for file in files if file.path.stat().st_size]
    if not filled:
        raise InputError(f"{files[0].name} is empty. Give a file with rows.")
    return filled


def _by_split(files: list[SourceFile]) -> dict[str, list[SourceFile]]:
    splits: dict[str, list[SourceFile]] = defaultdict(list)
    for file in files:
        splits[_split_of(file.name) or "train"].append(file)
    return dict(splits) if "train" in splits else {"train": files}


def _split_of(name: str) -> str:
    """Returns the split in the name of the file, or of the nearest folder or archive; "" if there is none.

    A name with two splits ("train_test.csv") counts as one without.
    """
    for part in reversed(name.split("/")):
        words = [_OF_DATA.sub("", word.lower()) for word in _WORD.findall(part)]
        splits = {_SPLITS[word] for word in words if word in _SPLITS}
        if len(splits) == 1:
            return splits.pop()
    return ""
