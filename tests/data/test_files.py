"""Files as people have them: whatever separators, quotation marks, encodings, archives and leftovers they come with."""

from __future__ import annotations

import datetime
import gzip
import json
import zipfile
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from miniml.data import preparation, tables
from miniml.data.formats import archives, quotes
from miniml.errors import InputError, StorageError
from miniml.settings.data import DataSettings
from tests.disks import small_disk

ROWS = [(f"the {word} place, number {n}", "np"[n % 2]) for n, word in enumerate(["dirty", "tasty"] * 10)]


def read(
    source: Path, scratch: Path, columns: tuple[str, ...] = ("text", "label")
) -> dict[str, list[tuple[Any, ...]]]:
    """The rows of every split."""
    scratch.mkdir(exist_ok=True)
    splits, _ = tables.read(str(source), scratch)
    return {
        split: [
            tuple(row[column] for column in columns)
            for batch in table.batches(columns)
            for row in batch.to_pylist()
        ]
        for split, table in splits.items()
    }


def refusal(source: Path, scratch: Path, columns: tuple[str, ...] = ("text", "label")) -> str:
    """The error that reading the source ends with, which is to be of a few lines."""
    with pytest.raises(InputError) as refused:
        read(source, scratch, columns)
    message = str(refused.value)
    assert len(message) < 700
    assert repr(str(source)) in message
    return message


def plain(separator: str = ",", end: str = "\n") -> str:
    """Rows as CSV without a quotation mark, and without a comma in a text."""
    lines = ["text,label", *(f"{text.replace(',', '')},{label}" for text, label in ROWS)]
    return end.join(line.replace(",", separator) for line in lines) + end


PLAIN = [(text.replace(",", ""), label) for text, label in ROWS]


def write(path: Path, content: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode(encoding))
    return path


@pytest.mark.parametrize(
    ("name", "content", "encoding"),
    [
        ("r.csv", plain(), "utf-8"),
        ("r.csv", plain(";"), "utf-8"),
        ("r.csv", plain("\t"), "utf-8"),
        ("r.csv", plain("|"), "utf-8"),
        ("r.tsv", plain("\t"), "utf-8"),
        ("r.tsv", plain(","), "utf-8"),
        ("r.csv", plain(end="\r\n"), "utf-8"),
        ("r.csv", plain(end="\r"), "utf-8"),
        ("r.csv", "\n\n" + plain(), "utf-8"),
        ("r.csv", "sep=;\n" + plain(";"), "utf-8"),
        ("r.csv", "sep=,\r\n" + plain(end="\r\n"), "utf-8-sig"),
        ("r.csv", '"sep=\t"\n' + plain("\t"), "utf-16"),
        ("r.csv", plain(), "utf-8-sig"),
        ("r.csv", plain("\t"), "utf-16"),
        ("r.csv", plain(), "utf-16-le"),
        ("r.csv", plain(), "utf-16-be"),
        ("r.csv", plain(), "utf-32"),
        ("r.csv", plain().replace("text,label", " text , label"), "utf-8"),
        ("r.csv", plain().replace("text,label", '"text","label"'), "utf-8"),
    ],
)
def test_a_table_is_read_whatever_separates_and_encodes_it(
    name: str, content: str, encoding: str, tmp_path: Path
) -> None:
    assert read(write(tmp_path / name, content, encoding), tmp_path / "scratch") == {"train": PLAIN}


def test_the_separator_is_told_where_it_is_not_the_usual_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    read(write(tmp_path / "r.csv", plain(";")), tmp_path / "scratch")
    assert "r.csv: the separator is ';'" in capsys.readouterr().out


def test_a_comma_in_the_header_of_a_text_does_not_make_it_the_separator(tmp_path: Path) -> None:
    content = '"text";"label";"price, EUR"\n' + "".join(f"{text};{label};1,5\n" for text, label in ROWS)
    assert read(write(tmp_path / "r.csv", content), tmp_path / "scratch") == {"train": ROWS}


@pytest.mark.parametrize(
    "stray",
    [
        # What opens a field in line 3 ends in the middle of another text, at the end of one, or nowhere.
        ('"{}', '"{}'),
        ('"{}', 'so "{}" he said'),
        ('"{}', "{}"),
    ],
)
def test_marks_in_a_file_that_quotes_nothing_are_letters(
    stray: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = [text for text, _ in PLAIN]
    texts[1], texts[15] = stray[0].format(texts[1]), stray[1].format(texts[15])
    rows = [(text, label) for text, (_, label) in zip(texts, PLAIN, strict=True)]
    content = "text,label\n" + "".join(f"{text},{label}\n" for text, label in rows)
    assert read(write(tmp_path / "r.csv", content), tmp_path / "scratch") == {"train": rows}
    assert "line 3" in capsys.readouterr().out


def test_in_a_tab_separated_file_a_whole_field_may_be_in_marks_that_quote_nothing(tmp_path: Path) -> None:
    content = 'text\tlabel\n"so" she said\tn\n"fine"\tp\n"open\tn\n'
    rows = [('"so" she said', "n"), ('"fine"', "p"), ('"open', "n")]
    assert read(write(tmp_path / "r.tsv", content), tmp_path / "scratch") == {"train": rows}


def test_a_stray_mark_among_quoted_fields_is_an_error_that_names_the_lines(tmp_path: Path) -> None:
    content = "text,label\n" + "".join(f'"{text}",{label}\n' for text, label in ROWS)
    message = refusal(
        write(tmp_path / "r.csv", content.replace("number 3", 'number "3" of').replace("number 9", 'n "9')),
        tmp_path / "scratch",
    )
    assert "r.csv: the quotation mark in line 5, before" in message
    assert "ends it in the middle of a text" in message
    assert 'Write ""' in message


def test_a_field_that_nothing_ends_is_an_error_that_names_the_line(tmp_path: Path) -> None:
    content = "text,label\n" + "".join(f'"{text}",{label}\n' for text, label in ROWS) + '"the last,n\n'
    message = refusal(write(tmp_path / "r.csv", content), tmp_path / "scratch")
    assert "in line 22" in message
    assert "nothing ends it" in message


def test_backslashes_before_marks_are_read_as_their_writer_meant_them(tmp_path: Path) -> None:
    texts = ['said "wow", loud', "C:\\new", 'ends in "so"', 'all "of" it\nin two lines', "plain"]
    escaped = [text.replace("\\", "\\\\").replace('"', '\\"') for text in texts]
    content = "text,label\n" + "".join(f'"{text}",{n % 2}\n' for n, text in enumerate(escaped))
    expected = [(text, str(n % 2)) for n, text in enumerate(texts)]
    assert read(write(tmp_path / "r.csv", content), tmp_path / "scratch") == {"train": expected}


def test_a_field_that_reads_like_rows_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prose = '"good, and cheap\nso, all in all, fine",p\n"first\nlast, I say",n\n'
    read(write(tmp_path / "prose.csv", "text,label\n" + prose), tmp_path / "scratch")
    assert "swallowed" not in capsys.readouterr().out
    for swallowed in ('"a fine,p\nb bad,n\nhe said so",p\n', '"a fine,p\nhe said so",p\n'):
        content = "text,label\n" + prose + swallowed
        read(write(tmp_path / "r.csv", content), tmp_path / "scratch")
        assert "r.csv: 1 fields read like several rows" in capsys.readouterr().out
    content = 'label,text\nn,"a fine\np,b bad\nn,he said so"\n'
    read(write(tmp_path / "r.csv", content), tmp_path / "scratch")
    assert "r.csv: 1 fields read like several rows" in capsys.readouterr().out


def test_proper_quoting_is_left_as_it_is(tmp_path: Path) -> None:
    content = (
        'text,label\n"a ""b"", c",n\n"",p\n"""d""",n\n5" nails and 7" ones,p\n'
        '"e\nf\\",n\nback\\slash,p\n"x""",p\n'
    )
    rows = [('a "b", c', "n"), ("", "p"), ('"d"', "n"), ('5" nails and 7" ones', "p")]
    rows += [("e\nf\\", "n"), ("back\\slash", "p"), ('x"', "p")]
    assert read(write(tmp_path / "r.csv", content), tmp_path / "scratch") == {"train": rows}


@pytest.mark.parametrize("size", [3, 7, 64])
def test_marks_are_judged_alike_wherever_the_blocks_of_a_file_end(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = write(tmp_path / "right.csv", 'text,label\n"a ""b""",n\n"""""",p\n5"" nails,n\n"c\n,d",p\n')
    wrong = write(tmp_path / "wrong.csv", 'text,label\n"a ""b""",n\n"c"" d,p\n"e" f,n\n"g",p\n')
    whole = quotes.first_stray(wrong, ",")
    assert whole is not None
    monkeypatch.setattr(quotes, "BYTES_AT_A_TIME", size)
    assert quotes.first_stray(right, ",") is None
    assert quotes.first_stray(wrong, ",") == whole
    assert quotes.line_of(wrong, whole.opened) == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"text,label\na,1\nb,2,3\n",
            "row 1 has 3 fields, where the first line has 2 ('text,label'): 'b,2,3'",
        ),
        (b'"text", "label"\n"a, b", "n"\n', "between separator and quotation mark stands a blank"),
        (b'{"text": "a", "label": 1}\n', "is JSON. Rename it"),
        (b"text,label\na,1\ncaf\xe9,2\n", "line 3, is no UTF-8: it holds the byte 0xe9 in 'café,2\\n'"),
        (b"t\xe9xt,label\na,1\n", "line 1, is no UTF-8"),
        (b"\xff\xfetext,label\n", "begins like UTF-16 and goes on otherwise"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n", "is a Git LFS pointer"),
        (b"\n<!DOCTYPE html><html>", "is a web page"),
        (b"PK\x03\x04\x14", "is a zip archive or an Excel file"),
        (b"\x1f\x8b\x08", "is gzipped"),
        (b"PAR1\x15", "is Parquet"),
        (b",".join(b"%d" % n for n in range(20_000)) + b"\n", "has 20,000 columns, of 4,096"),
    ],
)
def test_a_csv_that_cannot_be_read_is_named_with_the_place_and_a_remedy(
    content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / "r.csv").write_bytes(content)
    refused = refusal(tmp_path / "r.csv", tmp_path / "scratch")
    assert "r.csv" in refused
    assert message in refused


def columns(**of: pa.Array | list[Any]) -> pa.Table:
    return pa.table({"text": [text for text, _ in ROWS], "label": [label for _, label in ROWS], **of})


def parquet(path: Path, table: pa.Table) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pa.parquet.write_table(table, path)
    return path


def test_columns_that_nobody_asks_for_may_be_anything(tmp_path: Path) -> None:
    lines = plain().replace("text,label", ",text,label,x,x,").splitlines()
    content = "\n".join([lines[0], *(f"0,{line},1,2," for line in lines[1:])])
    assert read(write(tmp_path / "r.csv", content), tmp_path / "scratch") == {"train": PLAIN}
    table = columns(
        map=pa.array([[("a", 1)]] * 20, pa.map_(pa.string(), pa.int64())),
        object=[{"a": 1}] * 20,
        span=pa.array([1] * 20, pa.duration("s")),
    )
    twins = pa.Table.from_arrays([*table.columns, table.column("text")], [*table.column_names, "map"])
    assert read(parquet(tmp_path / "r.parquet", twins), tmp_path / "scratch") == {"train": ROWS}
    rows = [
        {"text": text, "label": label, "any": [1, {"a": [n]}, "x", None][n % 4]}
        for n, (text, label) in enumerate(ROWS)
    ]
    content = "\n".join(map(json.dumps, rows))
    assert read(write(tmp_path / "r.jsonl", content), tmp_path / "scratch") == {"train": ROWS}


TEXTS = pa.array([text for text, _ in ROWS])


@pytest.mark.parametrize(
    "texts",
    [
        TEXTS.cast(pa.string_view()),
        TEXTS.cast(pa.large_string()),
        TEXTS.cast(pa.binary()),
        TEXTS.cast(pa.binary()).cast(pa.large_binary()),
        TEXTS.dictionary_encode(),
        TEXTS.cast(pa.binary()).dictionary_encode(),
    ],
    ids=lambda texts: str(texts.type)[:20],
)
def test_texts_are_strings_however_parquet_stores_them(texts: pa.Array, tmp_path: Path) -> None:
    assert read(parquet(tmp_path / "r.parquet", columns(text=texts)), tmp_path / "scratch") == {"train": ROWS}


@pytest.mark.parametrize(
    ("stored", "labels"),
    [
        ([datetime.date(2024, 1, 1), datetime.date(2024, 2, 1)], ["2024-01-01", "2024-02-01"]),
        ([Decimal("1.5"), Decimal("2.0")], ["1.5", "2.0"]),
        ([b"n", b"p"], ["n", "p"]),
        ([["a", "b"], []], [["a", "b"], []]),
    ],
)
def test_dates_decimals_and_bytes_are_labels_as_they_are_written(
    stored: list[Any], labels: list[Any], tmp_path: Path
) -> None:
    source = parquet(tmp_path / "r.parquet", columns(label=stored * 10))
    read_labels = [label for _, label in read(source, tmp_path / "scratch")["train"]]
    assert read_labels == labels * 10


def test_bytes_that_are_no_text_are_named_by_their_row(tmp_path: Path) -> None:
    texts = [b"a"] * 19 + [b"\xff"]
    message = refusal(parquet(tmp_path / "r.parquet", columns(text=texts)), tmp_path / "scratch")
    assert "column 'text' of r.parquet holds bytes that are no UTF-8, first in row 19" in message


def test_a_damaged_parquet_file_is_named(tmp_path: Path) -> None:
    whole = parquet(tmp_path / "r.parquet", columns()).read_bytes()
    (tmp_path / "r.parquet").write_bytes(whole[: len(whole) // 2])
    assert "r.parquet cannot be read as Parquet" in refusal(tmp_path / "r.parquet", tmp_path / "scratch")


OBJECTS = [{"text": text, "label": label} for text, label in ROWS]
INDEXED = {
    "text": {str(n): text for n, (text, _) in enumerate(ROWS)},
    "label": {str(n): la for n, (_, la) in enumerate(ROWS)},
}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("r.jsonl", "\n".join(map(json.dumps, OBJECTS))),
        ("r.json", "\r\n".join(map(json.dumps, OBJECTS)) + "\r\n\r\n"),
        ("r.json", json.dumps(OBJECTS)),
        ("r.jsonl", json.dumps(OBJECTS, indent=1)),
        ("r.json", json.dumps({"version": 1, "data": OBJECTS})),
        ("r.json", json.dumps({"data": OBJECTS, "tags": ["a", "b"]}, indent=2)),
        ("r.json", json.dumps({"text": [text for text, _ in ROWS], "label": [label for _, label in ROWS]})),
        ("r.json", json.dumps(INDEXED)),
        ("r.json", json.dumps({str(n): row for n, row in enumerate(OBJECTS)}, indent=2)),
        ("r.json", json.dumps({"columns": ["text", "label"], "index": [0], "data": ROWS})),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_json_is_read_in_whichever_form_it_comes(
    name: str, content: str, encoding: str, tmp_path: Path
) -> None:
    source = write(tmp_path / "data [v1] #2" / name, content, encoding)
    assert read(source, tmp_path / "scratch") == {"train": ROWS}


@pytest.mark.parametrize(
    ("written", "labels"),
    [
        (["2024-01-01", "2024-02-01"], ["2024-01-01", "2024-02-01"]),
        (["0", 1, 0, "1"], ["0", "1", "0", "1"]),
        (["0", 1.0, 0.0, 1], ["0", "1", "0", "1"]),
        ([2**70, 1], [str(2**70), "1"]),
        (["n", None], ["n", None]),
        ([["a"], [], ["b", "a"], None], [["a"], [], ["b", "a"], None]),
        ([["a", 1], ["b"]], [["a", "1"], ["b"]]),
        (["\ud83d", "p"], ["\ufffd", "p"]),
    ],
)
def test_labels_in_json_are_what_is_written_there(
    written: list[Any], labels: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [json.dumps({"text": str(n), "label": written[n % len(written)]}) for n in range(20)]
    source = write(tmp_path / "r.jsonl", "\n".join(lines))
    expected = [labels[n % len(labels)] for n in range(20)]
    for rows_at_a_time in (8192, 20, 3, 1):
        monkeypatch.setattr("miniml.data.formats.json_file.ROWS_AT_A_TIME", rows_at_a_time)
        assert [label for _, label in read(source, tmp_path / "scratch")["train"]] == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "a", "label": 1}\n{"text": "b" "label": 1}\n', "r.jsonl, line 2, is no JSON"),
        ('{"text": "a", "label": 1}\n7\n', "row 1 of r.jsonl is 7, and no object"),
        ('[{"text": "a", "label": 1}, {"text"', "r.jsonl, row 1, is no JSON"),
        ('[["a", 1]]', "row 0 of r.jsonl is ['a', 1], and no object"),
        ('[{"text": "a", "label": 1}]\n[]', "goes on behind the array"),
        ('{"train": [{"text": "a"}], "test": [{"text": "b"}]}', "holds rows under the keys 'train', 'test'"),
        ('{"text": ["a", "b"], "label": [1]}', "columns of several lengths: 'text' 2, 'label' 1"),
        ('{"data": {"train": [], "test": []}}', "none of its keys ('data') holds rows"),
        ("[" * 100_000, "nests its JSON too deeply"),
        ("\n".join(f'{{"{n}": 1}}' for n in range(5000)), "has 5,000 columns, of 4,096"),
        ('{"text": "a"}\n\xe9', "line 2, is no UTF-8"),
    ],
)
def test_json_that_cannot_be_read_is_named_with_the_place_and_a_remedy(
    content: str, message: str, tmp_path: Path
) -> None:
    assert message in refusal(write(tmp_path / "r.jsonl", content, "latin-1"), tmp_path / "scratch")


def test_a_large_array_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(tmp_path / "r.json", json.dumps(OBJECTS))
    for characters in (1, 10, 70):
        monkeypatch.setattr("miniml.data.formats.json_rows.BYTES_AT_A_TIME", characters)
        assert read(source, tmp_path / "scratch") == {"train": ROWS}


def test_a_part_of_strings_and_one_of_numbers_have_the_same_labels(tmp_path: Path) -> None:
    for split, first, second in (("train", "0", "1"), ("test", 0, 1), ("dev", 0.0, 1.0)):
        parquet(tmp_path / "many" / f"{split}.parquet", columns(label=[first, second] * 10))
    for label_of in read(tmp_path / "many", tmp_path / "scratch").values():
        assert [label for _, label in label_of] == ["0", "1"] * 10


def test_parts_with_other_columns_or_types_are_named_where_one_asks_for_them(tmp_path: Path) -> None:
    parquet(tmp_path / "many" / "a.parquet", columns(more=[1] * 20))
    parquet(tmp_path / "many" / "b.parquet", columns(label=[["n"], ["p"]] * 10))
    assert len(read(tmp_path / "many", tmp_path / "scratch", ("text",))["train"]) == 40
    table = tables.read(str(tmp_path / "many"), tmp_path / "scratch")[0]["train"]
    assert "in a.parquet, and List(Value('string')) in b.parquet" in table.unusable["label"]
    assert "a.parquet has the column 'more'; b.parquet has text, label" in table.unusable["more"]


HALVES = (ROWS[:10], ROWS[10:])


def lines(rows: list[tuple[str, str]]) -> str:
    return "\n".join(json.dumps({"text": text, "label": label}) for text, label in rows)


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train/part-0.jsonl", "test/part-0.jsonl"),
        ("training.jsonl", "testing.jsonl"),
        ("drugsComTrain_raw.jsonl", "drugsComTest_raw.jsonl"),
        ("TRAIN01.jsonl", "TEST01.jsonl"),
        ("reviews.train.jsonl", "reviews.test.jsonl"),
        ("trainset.jsonl", "testset.jsonl"),
        ("en/train/dev_reviews/train-0.jsonl", "en/train/eval.jsonl"),
        ("testimonials.jsonl", "test.jsonl"),
        ("device_reviews.jsonl", "deep/test/latest.jsonl"),
        ("train_test.jsonl", "test_2.jsonl"),
    ],
)
def test_whole_words_of_files_and_folders_tell_the_split(
    train: str, test: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, rows in zip((train, test), HALVES, strict=True):
        write(tmp_path / "source" / name, lines(rows))
    assert read(tmp_path / "source", tmp_path / "scratch") == {"train": HALVES[0], "test": HALVES[1]}
    output = capsys.readouterr().out
    assert f"train: {train}" in output
    assert f"test: {test}" in output


def test_leftovers_beside_the_data_are_no_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "source" / "part-0.jsonl", lines(ROWS))
    write(tmp_path / "source" / "part-1.jsonl", "")
    for leftover in (
        *("._part-0.jsonl", ".ipynb_checkpoints/part-0-checkpoint.jsonl", "__MACOSX/part-0.jsonl", "~$r.csv"),
        *("_temporary/0/part-2.jsonl", "dataset_infos.json", "_SUCCESS", "README.md", ".git/x.json"),
    ):
        write(tmp_path / "source" / leftover, lines(HALVES[0]))
    assert read(tmp_path / "source", tmp_path / "scratch") == {"train": ROWS}
    assert "left out, as they are hidden: ._part-0.jsonl, " in capsys.readouterr().out


def test_a_part_of_many_may_have_no_rows_and_a_split_may_not(tmp_path: Path) -> None:
    write(tmp_path / "source" / "a.csv", plain())
    write(tmp_path / "source" / "b.csv", "text,label\n")
    write(tmp_path / "source" / "c.csv", "")
    parquet(tmp_path / "columns" / "a.parquet", columns())
    parquet(tmp_path / "columns" / "b.parquet", columns(label=pa.nulls(20)).slice(0, 0))
    assert read(tmp_path / "source", tmp_path / "scratch") == {"train": PLAIN}
    assert read(tmp_path / "columns", tmp_path / "scratch") == {"train": ROWS}
    write(tmp_path / "source" / "test.csv", "text,label\n")
    assert "test.csv has no rows" in refusal(tmp_path / "source", tmp_path / "scratch")
    write(tmp_path / "source" / "test.csv", "")
    assert "test.csv is empty" in refusal(tmp_path / "source", tmp_path / "scratch")


def zipped(path: Path, members: dict[str, str], **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_archives_that_hold_the_same_name_keep_their_rows(tmp_path: Path) -> None:
    for name, rows in zip("ab", HALVES, strict=True):
        zipped(tmp_path / "zips" / f"{name}.zip", {"in/r.jsonl": lines(rows)})
        packed = tmp_path / "gzips" / name / "r.jsonl.gz"
        packed.parent.mkdir(parents=True)
        packed.write_bytes(gzip.compress(lines(rows).encode()))
    assert read(tmp_path / "zips", tmp_path / "scratch") == {"train": ROWS}
    assert read(tmp_path / "gzips", tmp_path / "scratch") == {"train": ROWS}


def test_the_name_of_an_archive_tells_its_split(tmp_path: Path) -> None:
    for name, rows in zip(("train", "test"), HALVES, strict=True):
        zipped(tmp_path / "zips" / f"{name}.zip", {"r.jsonl": lines(rows)})
    assert read(tmp_path / "zips", tmp_path / "scratch") == {"train": HALVES[0], "test": HALVES[1]}


def test_a_member_called_like_a_file_of_the_machine_is_nothing_but_a_member(tmp_path: Path) -> None:
    secret = write(tmp_path / "secret.jsonl", lines([("not yours", "n")]))
    for name in (str(secret), "../../secret.jsonl", "..\\secret.jsonl", "a/../../secret.jsonl"):
        source = zipped(tmp_path / "r.zip", {name: lines(ROWS)})
        assert read(source, tmp_path / "scratch") == {"train": ROWS}
    assert secret.read_text() == lines([("not yours", "n")])
    assert {path.name for path in tmp_path.iterdir()} == {"secret.jsonl", "r.zip", "scratch"}


def test_what_unpacks_to_more_than_texts_do_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "FREE", 1000)
    bomb = "text,label\n" + " " * 10_000_000
    (tmp_path / "r.csv.gz").write_bytes(gzip.compress(bomb.encode()))
    for source in (zipped(tmp_path / "r.zip", {"r.csv": bomb}), tmp_path / "r.csv.gz"):
        assert "as bombs do, but no texts" in refusal(source, tmp_path / "scratch")
    assert (
        sum(path.stat().st_size for path in (tmp_path / "scratch").rglob("*") if path.is_file()) < 4_000_000
    )


def test_what_the_disk_has_no_room_for_is_not_unpacked(tmp_path: Path) -> None:
    source = zipped(tmp_path / "r.zip", {"r.csv": plain() * 2000})
    disk = tmp_path / "disk"
    disk.mkdir()
    with small_disk(disk, "256k"), pytest.raises(StorageError, match=r"unpacking r\.zip needs 1 MB"):
        tables.read(str(source), disk)


def damaged(source: Path, byte: int, value: int) -> Path:
    """The file with another value in a byte, counted from the beginning or the end."""
    content = bytearray(source.read_bytes())
    content[byte] = value
    source.write_bytes(content)
    return source


def with_flag(path: Path) -> Path:
    """An archive whose member is marked as having a password, in its own head and in the directory."""
    content = path.read_bytes()
    at = content.index(b"PK\x01\x02")
    return damaged(damaged(path, 6, 1), at + 8, 1)


def with_method(path: Path, method: int) -> Path:
    """An archive whose member is marked as packed in that way."""
    at = path.read_bytes().index(b"PK\x01\x02")
    return damaged(damaged(path, 8, method), at + 10, method)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_flag, "r.zip has a password (on 'r.csv')"),
        (lambda path: with_method(path, 9), "r.zip packs 'r.csv' by deflate64, which Python cannot unpack"),
        (lambda path: with_method(path, 93), "by method 93, which Python cannot unpack. Pack it again"),
        (lambda path: damaged(path, 45, 255), "r.zip cannot be unpacked"),
        (lambda path: damaged(path, 60, 255), "r.zip cannot be unpacked"),
        (lambda path: damaged(path, -22, 0), "r.zip cannot be unpacked"),
    ],
)
def test_an_archive_that_cannot_be_unpacked_is_named_with_a_remedy(
    change: Callable[[Path], Path], message: str, tmp_path: Path
) -> None:
    assert message in refusal(
        change(zipped(tmp_path / "r.zip", {"r.csv": plain() * 3})), tmp_path / "scratch"
    )


def preparing(source: Path, folder: Path, **settings: Any) -> str:
    """The error that preparing the source ends with."""
    with pytest.raises(InputError) as refused:
        preparation.prepare(DataSettings(dataset_id=str(source), **settings), folder / "dataset")
    assert len(str(refused.value)) < 900
    return str(refused.value)


def test_a_text_that_is_a_number_is_named_by_its_row(tmp_path: Path) -> None:
    rows = [{"text": 5 if n == 7 else text, "label": label} for n, (text, label) in enumerate(ROWS)]
    source = write(tmp_path / "r.jsonl", "\n".join(map(json.dumps, rows)))
    assert "row 7 of r.jsonl holds 5 in column 'text', where others hold strings" in preparing(
        source, tmp_path
    )
    parquet(tmp_path / "many" / "a.parquet", columns())
    parquet(tmp_path / "many" / "b.parquet", columns(text=range(20)))
    output = preparing(tmp_path / "many", tmp_path)
    assert "b.parquet holds numbers in column 'text', and a.parquet strings" in output


def test_a_table_without_a_header_is_told_so(tmp_path: Path) -> None:
    output = preparing(write(tmp_path / "r.csv", plain().partition("\n")[2]), tmp_path)
    assert "it has: the dirty place number 0, n. Set text_column" in output
    assert "The names are the first line of r.csv: if it is a row, put the columns' names above it." in output


def test_columns_that_cannot_be_read_say_why_when_one_asks_for_them(tmp_path: Path) -> None:
    twins = pa.Table.from_arrays([*columns().columns, TEXTS], ["text", "label", "label"])
    assert "has two columns 'label'. Rename one." in preparing(
        parquet(tmp_path / "r.parquet", twins), tmp_path
    )
    source = write(tmp_path / "r.csv", "text,label,label\na,1,2\n")
    assert "r.csv has two columns 'label'. Rename one." in preparing(source, tmp_path)
    source = parquet(tmp_path / "m.parquet", columns(label=[{"a": 1}] * 20))
    assert "column 'label' of m.parquet is of type 'struct<a: int64>'" in preparing(source, tmp_path)
    rows = "\n".join(json.dumps({"text": text, "label": {"is": label}}) for text, label in ROWS)
    output = preparing(write(tmp_path / "r.jsonl", rows), tmp_path)
    assert "row 0 of r.jsonl holds {'is': 'n'} in column 'label'. A text is a string, and a label" in output


def test_an_error_is_short_whatever_the_columns_and_labels_are(tmp_path: Path) -> None:
    header = ",".join(f"column {n} " + "x" * 200 for n in range(3000))
    source = write(tmp_path / "wide.csv", f"{header}\n" + "," * 2999 + "\n")
    assert "and 2,990 more" in preparing(source, tmp_path)
    source = parquet(tmp_path / "r.parquet", columns(label=["x" * 90_000, "y"] * 10))
    assert "is no number, as task regression needs it" in preparing(source, tmp_path, task="regression")


def test_columns_of_json_are_paired_by_their_rows_keys(tmp_path: Path) -> None:
    rows = range(40)
    document: dict[str, dict[str, Any]] = {
        "text": {str(row): f"a text {row}" for row in rows},
        "label": {str(row): row % 2 for row in reversed(rows)},
    }
    found = read(write(tmp_path / "r.json", json.dumps(document)), tmp_path / "scratch")
    assert found == {"train": [(f"a text {row}", row % 2) for row in rows]}
    del document["label"]["7"]
    message = refusal(write(tmp_path / "r.json", json.dumps(document)), tmp_path / "scratch")
    assert "column 'label' has other rows than column 'text'" in message


@pytest.mark.parametrize("row", [None, ["a text", "x", 1]])
def test_a_row_of_json_that_does_not_fit_its_columns_is_named(row: object, tmp_path: Path) -> None:
    document = {"columns": ["text", "label"], "data": [["fine", 0], row]}
    message = refusal(write(tmp_path / "r.json", json.dumps(document)), tmp_path / "scratch")
    assert "data[1] is" in message
    assert "where a list of 2 values belongs" in message


@pytest.mark.parametrize("sign", ["€", "'"])
def test_a_line_that_names_no_separator_is_told(sign: str, tmp_path: Path) -> None:
    message = refusal(write(tmp_path / "r.csv", f"sep={sign}\ntext,label\nfine,0\n"), tmp_path / "scratch")
    assert "its line sep= names" in message


@pytest.mark.parametrize("line", ["'{}','{}'", '{}, "{}"'])
def test_marks_that_quote_nothing_are_named_and_not_read_as_letters(line: str, tmp_path: Path) -> None:
    rows = [line.format(text.replace(",", ""), label) for text, label in ROWS]
    message = refusal(write(tmp_path / "r.csv", "\n".join(["text,label", *rows])), tmp_path / "scratch")
    assert "stand in marks that quote nothing" in message
    assert "pandas.read_csv does with" in message


def test_what_is_linked_is_read_and_what_is_not_read_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "data"
    write(folder / "train.csv", plain())
    write(tmp_path / "elsewhere" / "part.csv", plain())
    (folder / "test").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "again").symlink_to(folder)
    write(folder / "test.csv.bz2", "BZh9")
    assert read(folder, tmp_path / "scratch") == {"train": PLAIN, "test": PLAIN}
    assert "left out, of formats that are not read: test.csv.bz2" in capsys.readouterr().out
    (folder / "dev.csv").symlink_to(tmp_path / "nowhere.csv")
    assert "dev.csv is a link that leads nowhere" in refusal(folder, tmp_path / "scratch")


def test_a_field_longer_than_pythons_reader_takes_is_read(tmp_path: Path) -> None:
    long = "word " * 30_000
    rows = [(long if number == 3 else text, label) for number, (text, label) in enumerate(PLAIN)]
    content = "\n".join(["text,label", *(f"{text},{label}" for text, label in rows)])
    found = read(write(tmp_path / "r.csv", content), tmp_path / "scratch")
    assert [text.strip() for text, _ in found["train"]] == [text.strip() for text, _ in rows]
