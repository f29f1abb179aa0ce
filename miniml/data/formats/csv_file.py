"""Reads CSV and TSV, each column as strings, whatever separator, encoding and line ends the file has."""

from __future__ import annotations

import csv
import io
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.csv

from miniml.data.formats import quotes, unicode
from miniml.data.formats.source_file import SourceFile
from miniml.data.formats.table import Table, require_few_columns
from miniml.errors import InputError
from miniml.escaping import shown
from miniml.files.portions import BYTES_AT_A_TIME
from miniml.progress import logger

_NO_SEPARATORS = frozenset("\"\\'\r\n")
_NO_QUOTES = {
    r"'.*'": 'pandas.read_csv does with quotechar="\'"',
    r'\s+".*"\s*': "pandas.read_csv does with skipinitialspace=True",
}
"""Patterns of fields whose marks are no quotation marks by the rules, and what reads them as such."""
_MIN_FIELDS, _MAX_LINES = 5, 200
_SEPARATORS = {",": "','", ";": "';'", "\t": "a tab", "|": "'|'"}
# Excel's own line above the header: sep=;
_SEPARATOR_LINE = re.compile(r'"?sep=(\\t|.)"?[,;\t]*\s*$', re.IGNORECASE)
# How many characters are used to find the separator.
_SAMPLE = 64 << 10


@dataclass(frozen=True)
class _Layout:
    """The way in which a file is to be read."""

    path: Path
    """The file in UTF-8; its quotation marks keep to the rules if `quoted`."""
    separator: str
    names: list[str]
    """The names of the columns."""
    lines: int
    """The number of lines above the first row."""
    has_rows: bool
    quoted: bool = True
    """Whether quotation marks enclose fields; if not, they belong to the texts."""


def csv_table(file: SourceFile, scratch: Path) -> Table:
    """Returns the rows of a CSV or TSV file.

    All values are strings: a review may be "None" or "NA", and a column of numbers may have a word in a later row.

    Args:
        file: The file.
        scratch: The folder for temporary files.

    Raises:
        InputError: The file cannot be read as CSV; reading the rows may raise it, too. The message names the line.
    """
    layout = _layout(file, scratch)
    twins = {name for name in layout.names if layout.names.count(name) > 1} if layout.names else set()
    place = {name: number for number, name in enumerate(layout.names) if name not in twins}

    def batches(columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        swallowed = quotes.Swallowed(layout.separator, len(layout.names))
        for batch in _read(file, layout, [str(place[column]) for column in columns]):
            for name, values in zip(columns, batch.columns, strict=True):
                swallowed.inspect(values, place[name])
            yield pa.record_batch(batch.columns, names=list(columns))
        if swallowed.count:
            logger.info(
                f"{file.name}: {swallowed.count:,} fields read like several rows, as if a quotation mark had swallowed "
                f"them; look at {shown(swallowed.first)}"
            )

    return Table(
        features=datasets.Features({name: datasets.Value("string") for name in place}),
        batches=batches,
        rows=None if layout.has_rows else 0,
        name=file.name,
        unusable={name: f"{file.name} has two columns {name!r}. Rename one." for name in twins},
        advice=f"The names are the first line of {file.name}: if it is a row, put the columns' names above it.",
    )


def _layout(file: SourceFile, scratch: Path) -> _Layout:
    path = unicode.in_utf8(file, scratch)
    lines, whole = _first_lines(file, path)
    usual, above = "\t" if file.suffix == ".tsv" else ",", 0
    if lines and (directive := _SEPARATOR_LINE.match(lines[0])):
        separator, above = directive[1].replace("\\t", "\t"), 1
        if not separator.isascii() or separator in _NO_SEPARATORS:
            raise InputError(
                f"{file.name}: its line sep= names {shown(separator)}, by which no table is separated. Name another "
                f"one, or leave the line out."
            )
    else:
        separator = _separator(lines, usual, whole)
    names, height, has_rows = _header(file, lines[above:], separator, whole)
    if separator != usual:
        logger.info(f"{file.name}: the separator is {_SEPARATORS.get(separator, repr(separator))}")
    layout = _Layout(path, separator, names, above + height, has_rows)
    return _with_quotes_right(file, layout, scratch) if has_rows else layout


def _first_lines(file: SourceFile, path: Path) -> tuple[list[str], bool]:
    """Returns the first lines of the file, and whether they are all of it."""
    with path.open("rb") as opened:
        start = opened.read(BYTES_AT_A_TIME)
        whole = not opened.read(1)
    if not whole:  # Its last character may be cut off.
        start = start[: max(start.rfind(b"\n"), start.rfind(b"\r")) + 1]
    try:
        text = start.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise unicode.not_utf8(file, path) or error from error
    return io.StringIO(text, newline="").readlines(), whole


def _separator(lines: list[str], usual: str, whole: bool) -> str:
    """Returns the separator that gives all first rows as many fields as the header, or else the header most fields."""
    candidates = [usual, *(each for each in _SEPARATORS if each != usual)]
    sample = "".join(lines)[:_SAMPLE]
    headers = {}
    for candidate in candidates:
        widths = _widths(sample, candidate, cut=not whole or len(sample) == _SAMPLE)
        if len(set(widths)) == 1 and widths[0] > 1:
            return candidate
        headers[candidate] = widths[0] if widths else 0
    return usual if headers[usual] > 1 else max(candidates, key=lambda each: headers[each])


def _widths(sample: str, separator: str, cut: bool) -> list[int]:
    rows, read_whole = _rows(io.StringIO(sample, newline=""), separator)
    widths = [len(row) for row in rows]
    return widths[:-1] if read_whole and cut and len(widths) > 1 else widths


def _rows(lines: Iterable[str], separator: str) -> tuple[list[list[str]], bool]:
    """Returns the rows of some lines, without empty ones, and whether all could be read.

    The rows end before a field that is too long for Python's reader, though not for Arrow's.
    """
    rows = []
    try:
        for row in csv.reader(lines, delimiter=separator):
            rows += [row] if row else []
    except csv.Error:
        return rows, False
    return rows, True


def _header(file: SourceFile, lines: list[str], separator: str, whole: bool) -> tuple[list[str], int, bool]:
    """Returns the names of the columns, the number of lines that they take, and whether rows follow."""
    reader = csv.reader(lines, delimiter=separator)
    try:
        names = next((row for row in reader if row), [])
    except csv.Error as error:
        raise InputError(
            f"{file.name} begins with no names of columns: {error}. Put them into its first line."
        ) from error
    require_few_columns(len(names), file.name)
    if apart := [name for name in names if re.match(r'\s+"', name)]:
        raise InputError(
            f"{file.name}: between separator and quotation mark stands a blank ({shown(apart[0])}), so that the mark "
            f"quotes nothing. Take such blanks out; pandas.read_csv does with skipinitialspace=True."
        )
    _require_fields_without_marks(file, names, lines, separator)
    has_rows = not whole or any(line.strip() for line in lines[reader.line_num :])
    return names, reader.line_num, has_rows


def _require_fields_without_marks(
    file: SourceFile, names: list[str], lines: list[str], separator: str
) -> None:
    """Checks that no column has all its first fields in marks that quote nothing.

    Raises:
        InputError: One has; the message names the marks and the remedy.
    """
    rows = _rows(lines[:_MAX_LINES], separator)[0][1:]
    for place, name in enumerate(names):
        fields = [row[place] for row in rows if len(row) == len(names) and row[place].strip()]
        for marks, remedy in _NO_QUOTES.items():
            if len(fields) >= _MIN_FIELDS and all(re.fullmatch(marks, field, re.DOTALL) for field in fields):
                raise InputError(
                    f"{file.name}: the fields of column {shown(name)} stand in marks that quote nothing, as in "
                    f"{shown(fields[0])}. Take them out; {remedy}."
                )


def _with_quotes_right(file: SourceFile, layout: _Layout, scratch: Path) -> _Layout:
    """Returns the layout, changed if the file uses quotation marks in another way than by the rules of CSV."""
    stray = quotes.first_stray(layout.path, layout.separator)
    if stray is None:
        return layout
    line = quotes.line_of(layout.path, stray.opened)
    copy = Path(tempfile.mkdtemp(dir=scratch)) / "plain.csv"
    if quotes.without_escapes(layout.path, copy) and not quotes.first_stray(copy, layout.separator):
        logger.info(f'{file.name}: \\" is read as a quotation mark within a text, as in line {line}')
        return replace(layout, path=copy)
    if quotes.are_plain_letters(layout.path, layout.separator, len(layout.names)):
        logger.info(
            f"{file.name}: quotation marks are read as they stand, since that in line {line} opens no field"
        )
        return replace(layout, quoted=False)
    if stray.met is None:
        met = "and nothing ends it"
    else:
        met = f"and the next one, in line {quotes.line_of(layout.path, stray.met)}, ends it in the middle of a text"
    raise InputError(
        f"{file.name}: the quotation mark in line {line}, before {_following(layout.path, stray.opened)}, opens a "
        f'field, {met}. Write "" for a mark that belongs to a text, and put the text into marks itself.'
    )


def _following(path: Path, byte: int) -> str:
    with path.open("rb") as opened:
        opened.seek(byte + 1)
        return shown(opened.read(40).decode(errors="ignore").partition("\n")[0])


def _read(file: SourceFile, layout: _Layout, numbers: list[str]) -> Iterator[pa.RecordBatch]:
    wrong: list[pa.csv.InvalidRow] = []

    def refuse(row: pa.csv.InvalidRow) -> str:
        wrong.append(row)
        return "error"

    try:
        with pa.csv.open_csv(
            layout.path,
            read_options=pa.csv.ReadOptions(
                block_size=BYTES_AT_A_TIME,
                use_threads=False,
                skip_rows=layout.lines,
                column_names=[str(number) for number in range(len(layout.names))],
            ),
            parse_options=pa.csv.ParseOptions(
                delimiter=layout.separator,
                quote_char='"' if layout.quoted else False,
                newlines_in_values=layout.quoted,
                invalid_row_handler=refuse,
            ),
            convert_options=pa.csv.ConvertOptions(
                column_types=dict.fromkeys(numbers, pa.string()),
                include_columns=numbers,
                strings_can_be_null=False,
            ),
        ) as reader:
            yield from reader
    except pa.ArrowInvalid as error:
        raise _unreadable(file, layout, wrong, error) from error


def _unreadable(
    file: SourceFile, layout: _Layout, wrong: list[pa.csv.InvalidRow], error: pa.ArrowInvalid
) -> InputError:
    if wrong:
        row = wrong[0]
        return InputError(
            f"{file.name} cannot be read as CSV: row {row.number - layout.lines - 1} has {row.actual_columns} fields, "
            f"where the first line has {row.expected_columns} ({shown(','.join(layout.names))}): {shown(row.text)}. "
            f"Put quotation marks around texts that hold the separator "
            f"({_SEPARATORS.get(layout.separator, repr(layout.separator))}), and nothing above the columns' names."
        )
    if "straddl" in str(error):
        return InputError(
            f"a row of {file.name} is larger than {BYTES_AT_A_TIME >> 20} MiB. Is a quotation mark left open, or the "
            f"separator another? Parquet takes longer texts."
        )
    return unicode.not_utf8(file, layout.path) or InputError(
        f"{file.name} cannot be read as CSV ({str(error)[:200]}). Is it that format, in UTF-8?"
    )
