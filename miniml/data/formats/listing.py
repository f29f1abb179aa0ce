"""Which files of a source hold its rows, and of which split."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from miniml.data.formats.archives import ARCHIVES, unpacked
from miniml.data.formats.source_file import SourceFile, require_what_it_says
from miniml.errors import InputError
from miniml.escaping import listed
from miniml.progress import note

FORMATS = {".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "json", ".parquet": "parquet"}

# What tells of a dataset, beside its data.
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
# Of tables and archives that others read.
_UNREAD = re.compile(
    r"\.(txt|xlsx?|ods|arrow|feather|orc|avro|pkl|pickle|h5|npz|db|sqlite3?|bz2|xz|zst|lz4|tar|tgz|7z|rar)$",
    re.IGNORECASE,
)
# TEST, Test and test of drugsComTest_raw2, and testset; nothing of testimonials.
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_OF_DATA = re.compile(r"(?<=.)(set|data|file|split)$")


def files_by_split(source: Path, scratch: Path) -> dict[str, list[SourceFile]]:
    """The files with rows that `source` is, holds or packs, all of one format, by the split that their names tell.

    Where they tell no training split, all are that. What is unpacked goes to the folder `scratch`.

    Raises:
        InputError: there is none, they are of several formats, or one is not what its name says.
        StorageError: the disk has no room for what is unpacked.
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
        note(f"left out, of formats that are not read: {listed(unread, 5)}")
    for file in known:
        require_what_it_says(file)
    if len({FORMATS[file.suffix] for file in known}) > 1:
        suffixes = sorted({file.suffix for file in known})
        raise InputError(
            f"it mixes {' and '.join(suffixes)} files: {listed((file.name for file in known), 5)}. "
            f"Keep one format in the folder, or name one file."
        )
    splits = {split: _with_content(of) for split, of in _by_split(known).items()}
    if len(known) > 1:
        note("; ".join(f"{split}: {listed((file.name for file in of), 5)}" for split, of in splits.items()))
    return splits


def _in_folder(folder: Path) -> list[SourceFile]:
    """The files below the folder, without those that are hidden: editors', systems' and unfinished ones."""
    files = [SourceFile(path, path.relative_to(folder).as_posix()) for path in sorted(_walk(folder))]
    hidden = [file.name for file in files if file.suffix in FORMATS and not _is_shown(file.name)]
    if hidden:
        note(f"left out, as they are hidden: {listed(hidden, 5)}")
    return [file for file in files if _is_shown(file.name)]


def _walk(folder: Path) -> Iterator[Path]:
    """All files below the folder, those of linked folders too, each folder once.

    Raises:
        InputError: a link leads nowhere.
    """
    seen = set()
    for top, folders, names in os.walk(folder, followlinks=True):
        seen.add(os.path.realpath(top))
        folders[:] = [name for name in folders if os.path.realpath(Path(top, name)) not in seen]
        for path in (Path(top, name) for name in names):
            if path.is_symlink() and not path.exists():
                raise InputError(
                    f"{path.relative_to(folder)} is a link that leads nowhere. Mend or remove it."
                )
            if path.is_file():
                yield path


def _is_shown(name: str) -> bool:
    """Not ._train.csv, .ipynb_checkpoints/, __MACOSX/, or the _temporary/ and _delta_log/ of Spark."""
    *folders, last = name.split("/")
    return not any(
        each.startswith((".", "_")) and each not in (".", "..") for each in folders
    ) and not last.startswith((".", "~$"))


def _plain(file: SourceFile, source: Path, folder: Path) -> list[SourceFile]:
    """The file itself, or what it packs."""
    if file.suffix not in ARCHIVES:
        return [file]
    require_what_it_says(file)
    inside = unpacked(file, tuple(FORMATS), folder)
    if file.path == source or file.suffix == ".gz":
        return inside
    return [SourceFile(each.path, f"{file.name}/{each.name}") for each in inside]


def _with_content(files: list[SourceFile]) -> list[SourceFile]:
    """Those that are not empty: of many parts one may be."""
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
    """The split that the file's name tells, or else the nearest folder's or archive's; "" where none does.

    A name that tells two ("train_test.csv") tells none.
    """
    for part in reversed(name.split("/")):
        words = [_OF_DATA.sub("", word.lower()) for word in _WORD.findall(part)]
        told = {_SPLITS[word] for word in words if word in _SPLITS}
        if len(told) == 1:
            return told.pop()
    return ""
