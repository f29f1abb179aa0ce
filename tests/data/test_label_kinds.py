"""What the labels tell of the task: classes, several labels a text, or numbers; how such rows are checked and split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pytest

from miniml.data import preparation, prepared
from miniml.data.report_request import ReportRequest
from miniml.errors import InputError
from miniml.settings.data import DataSettings
from miniml.tasks import Task
from miniml.tasks.multi_label import MULTI_LABEL
from miniml.tasks.regression import REGRESSION
from miniml.tasks.single_label import SINGLE_LABEL
from tests import tiny


def prepare(source: Path, folder: Path, **settings: Any) -> prepared.DatasetSummary:
    settings = {"dataset_id": str(source), **settings}
    return preparation.prepare(DataSettings(**settings), folder / "dataset")


def write(folder: Path, labels: list[Any], texts: list[str] | None = None) -> Path:
    """Parquet, which keeps the labels' types; texts are their numbers in words of no other text."""
    texts = texts or [f"text{n} number{n} word{n} say{n}" for n in range(len(labels))]
    datasets.Dataset.from_dict({"text": texts, "label": labels}).to_parquet(folder / "rows.parquet")
    return folder / "rows.parquet"


def test_a_column_of_lists_is_several_labels_a_text(tmp_path: Path) -> None:
    summary = prepare(write(tmp_path, [["b"], ["a", "b"], [], ["a"]] * 10), tmp_path)
    assert (summary.task, summary.labels) == (MULTI_LABEL, ["a", "b"])
    splits, read_back = prepared.load(tmp_path / "dataset")
    assert read_back == summary
    assert isinstance(read_back.task, Task)
    assert splits["train"].features["label"] == datasets.List(datasets.ClassLabel(names=["a", "b"]))
    labels_of = {
        text: labels
        for split in splits.values()
        for text, labels in zip(split["text"], split["label"], strict=True)
    }
    assert labels_of["text0 number0 word0 say0"] == [1]
    assert labels_of["text1 number1 word1 say1"] == [0, 1]
    assert labels_of["text2 number2 word2 say2"] == []
    assert sum(counts["a"] for counts in summary.rows_per_class.values()) == 20


def test_labels_in_one_string_are_parted_where_the_separator_is_told(tmp_path: Path) -> None:
    source = tiny.write_tagged(tmp_path / "rows.csv")
    summary = prepare(source, tmp_path, label_column="tags", label_separator="|")
    assert (summary.task, summary.labels) == (MULTI_LABEL, ["complaint", "praise"])
    for split, rows in summary.rows.items():
        shares = {label: count / rows for label, count in summary.rows_per_class[split].items()}
        assert shares == pytest.approx({"complaint": 1 / 3, "praise": 2 / 3}, abs=0.05)
    for row in prepared.load(tmp_path / "dataset")[0]["test"]:
        words = set(row["text"].split())
        assert row["label"] == [0] * bool(words & set(tiny.BAD)) + [1] * bool(words & set(tiny.GOOD))


def test_without_the_separator_they_are_classes_as_ever(tmp_path: Path) -> None:
    source = write(tmp_path, ["a|b", "a"] * 10)
    summary = prepare(source, tmp_path)
    assert (summary.task, summary.labels) == (SINGLE_LABEL, ["a", "a|b"])


@pytest.mark.parametrize(
    ("labels", "task"),
    [
        ([1.5, 2.0, 4.0], REGRESSION),
        (["1.5", "2", " 4.0 "], REGRESSION),
        ([1, 2, 3, 4, 5], SINGLE_LABEL),
        ([1.0, 2.0, 3.0], SINGLE_LABEL),
        (["1.0", "5.0"], SINGLE_LABEL),
        (["0.5", "2.5", "unknown"], SINGLE_LABEL),
        (["1.2", "1.2.3"], SINGLE_LABEL),
        ([True, False], SINGLE_LABEL),
    ],
)
def test_numbers_with_fractions_are_a_regression_and_whole_ones_are_classes(
    labels: list[Any], task: Task, tmp_path: Path
) -> None:
    assert prepare(write(tmp_path, labels * 20), tmp_path).task == task


def test_stars_are_numbers_where_one_says_so_and_fractions_classes(tmp_path: Path) -> None:
    summary = prepare(write(tmp_path, [1, 2, 3, 4, 5] * 20), tmp_path / "a", task=REGRESSION)
    assert (summary.task, summary.labels) == (REGRESSION, [])
    assert summary.numbers == pytest.approx(
        {"least": 1, "median": 3, "mean": 3, "most": 5, "deviation": 2**0.5}
    )
    summary = prepare(write(tmp_path, [0.5, 1.5] * 20), tmp_path / "b", task=SINGLE_LABEL)
    assert summary.labels == ["0.5", "1.5"]


def test_every_split_has_its_share_of_small_and_large_numbers(tmp_path: Path) -> None:
    summary = prepare(write(tmp_path, [n + 0.5 for n in range(400)]), tmp_path)
    assert summary.rows == {"train": 290, "validation": 30, "test": 80}
    splits, _ = prepared.load(tmp_path / "dataset")
    assert splits["test"].features["label"] == datasets.Value("float32")
    for split in splits.values():
        values = sorted(split["label"])
        assert values[len(values) // 2] == pytest.approx(200, abs=25)
        assert len([value for value in values if value < 40]) == pytest.approx(len(values) / 10, abs=1)
    assert summary.rows_per_class == {"train": {}, "validation": {}, "test": {}}


def test_the_task_is_told_by_the_rows_that_the_filter_lets_through(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(
        "text,label,kind\n"
        + "".join(f"w{n} x{n} y{n},{n / 2},score\nv{n} u{n} z{n},word,other\n" for n in range(60))
    )
    assert prepare(tmp_path / "rows.csv", tmp_path, row_filter="kind=score").task == REGRESSION


def test_the_same_text_with_another_set_or_another_number_is_a_conflict(tmp_path: Path) -> None:
    texts = [f"text{n} number{n} word{n}" for n in range(40)] + ["text0 number0 word0", "text1 number1 word1"]
    sets = [["a"], ["b"]] * 20 + [["a", "b"], ["b"]]
    summary = prepare(write(tmp_path, sets, texts), tmp_path / "sets")
    assert summary.dropped == {"conflicting": 2, "duplicate": 1}
    numbers = [n + 0.5 for n in range(40)] + [7.25, 1.5]
    summary = prepare(write(tmp_path, numbers, texts), tmp_path / "numbers")
    assert summary.dropped == {"conflicting": 2, "duplicate": 1}
    with pytest.raises(InputError, match=r"train, row 0 \(0\.5\) and train, row 40 \(7\.25\)"):
        prepare(tmp_path / "rows.parquet", tmp_path / "refused", conflicting_labels="refuse")


def test_a_rare_label_is_refused_or_leaves_with_its_rows(tmp_path: Path) -> None:
    source = write(tmp_path, [["a"], ["b"], ["a", "b"]] * 10 + [["a", "c"], ["c"]])
    with pytest.raises(InputError, match="label 'c' has 2 rows of 32, too few to split"):
        prepare(source, tmp_path)
    summary = prepare(source, tmp_path, drop_rare_classes=True)
    assert summary.labels == ["a", "b"]
    assert (summary.dropped, sum(summary.rows.values())) == ({"rare_class": 2}, 30)


def test_groups_stay_together_whatever_the_labels_are(tmp_path: Path) -> None:
    for labels in ([[], ["a"], ["a", "b"], ["b"]] * 25, [n / 7 for n in range(100)]):
        table = datasets.Dataset.from_dict(
            {
                "text": [f"t{n} u{n} v{n}" for n in range(100)],
                "label": labels,
                "who": [n // 5 for n in range(100)],
            }
        )
        table.to_parquet(tmp_path / "rows.parquet")
        prepare(tmp_path / "rows.parquet", tmp_path, group_column="who")
        splits, _ = prepared.load(tmp_path / "dataset")
        groups = [{int(text.split()[0][1:]) // 5 for text in split["text"]} for split in splits.values()]
        assert sum(map(len, groups)) == len(set.union(*groups)) == 20


def test_names_are_a_class_labels_own_and_in_its_order(tmp_path: Path) -> None:
    feature = datasets.Features(
        text=datasets.Value("string"),
        label=datasets.List(datasets.ClassLabel(names=["toxic", "insult", "threat"])),
    )
    rows = {"text": [f"t{n} u{n} v{n}" for n in range(60)], "label": [[0], [1, 2], [2, 0]] * 20}
    datasets.Dataset.from_dict(rows, features=feature).save_to_disk(str(tmp_path / "saved"))
    assert prepare(tmp_path / "saved", tmp_path).labels == ["toxic", "insult", "threat"]
    assert prepare(tmp_path / "saved", tmp_path, label_names="t,i,d").labels == ["t", "i", "d"]


@pytest.mark.parametrize(
    ("labels", "settings", "message"),
    [
        (["a|b", "b"], {"task": MULTI_LABEL}, "label 'a|b' in row 0 of split 'train' is one string"),
        ([1, 2], {"label_separator": "|"}, "label 1 in row 0 of split 'train' is of type int"),
        ([[0, 1, 0], [1, 0, 0]], {}, "If they are flags, write the names"),
        ([[0, 1], [1, 0]], {}, "every row has all of the labels 0, 1. If they are flags"),
        ([[True, False], [False, True]], {}, "are flags, or name one more than once"),
        (["1.5", "9e999"], {"task": REGRESSION}, "label '9e999' in row 1 of split 'train' is no number"),
        ([["a", None], ["b"]], {}, "hold None; each label is a string or a number"),
        ([["a"], ["a"]], {}, "has one class only ('a')"),
        ([["a"], ["b"]], {"task": SINGLE_LABEL}, "is of type list; a label is a string or a number"),
        (["1.5", "2,5"], {"task": REGRESSION}, "label '2,5' in row 1 of split 'train' is no number"),
        ([1.5, float("inf")], {"task": REGRESSION}, "label inf in row 1 of split 'train' is no number"),
        ([1.5, None], {}, "row 1 has no label"),
        ([1.5, 1.5], {}, "has 1 different numbers in 40 rows"),
        ([1.5, 2.5], {"label_names": "low,high"}, "holds numbers to predict (regression), which have no names"),
    ],
)  # fmt: skip
def test_labels_that_are_not_of_the_task_are_refused_by_place_and_value(
    labels: list[Any], settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as refused:
        prepare(write(tmp_path, labels * 20), tmp_path, **settings)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task": "multi"}, "task 'multi' is not known. Use one of auto, single_label_classification"),
        ({"task": REGRESSION, "label_separator": "|"}, "label_separator is '|', but task is regression"),
        ({"task": REGRESSION, "label_names": "a,b"}, "label_names is 'a,b', but task is regression"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, str], message: str) -> None:
    with pytest.raises(InputError) as refused:
        DataSettings(**settings)  # type: ignore[arg-type]
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            [["toxic"], ["toxic", "insult"], []],
            ("<h2>Labels</h2>", "each\n    percentage is a share of all texts"),
        ),
        ([0.5, 1.25, 3.0], ("<h2>Numbers</h2>", "From 0.5 to 3,\n    median 1.25")),
    ],
)
def test_the_report_shows_labels_and_numbers_as_what_they_are(
    labels: list[Any], message: tuple[str, ...], encoder: Path, tmp_path: Path
) -> None:
    request = ReportRequest(tmp_path / "report.html", str(encoder), max_length=12)
    preparation.prepare(
        DataSettings(dataset_id=str(write(tmp_path, labels * 20))), tmp_path / "dataset", request
    )
    page = request.path.read_text()
    for words in message:
        assert words in page


def test_the_same_seed_gives_the_same_rows(tmp_path: Path) -> None:
    for labels in ([["a"], ["a", "b"], []] * 20, [n / 4 for n in range(60)]):
        source = write(tmp_path, labels)
        one, same, other = (prepare(source, tmp_path / str(n), seed=n // 2) for n in range(3))
        assert one.fingerprint == same.fingerprint != other.fingerprint


@pytest.mark.parametrize(
    ("labels", "names", "found"),
    [
        (["neg", "pos", "neg ", " pos", "neg", "pos"], ["neg", "pos"], {"label_spelling": 40}),
        (["so so", "fine", "so\t so", "so\u00a0so"], ["fine", "so so"], {"label_spelling": 40}),
        (["caf\u00e9", "bar", "cafe\u0301", "bar"], ["bar", "caf\u00e9"], {"label_spelling": 20}),
        (["0", "1", "0", "1.0"], ["0", "1"], {"label_spelling": 20}),
        (["1.0", "2.0", "1.00"], ["1.0", "2.0"], {"label_spelling": 20}),
        (["1.0", "2.0", "1.5x"], ["1.0", "2.0", "1.5x"], {}),
        ([" neg", " pos"], ["neg", "pos"], {}),
        ([["a", "b "], ["b"], ["a "], ["b", "a"]], ["a", "b"], {"label_spelling": 40}),
    ],
)
def test_a_label_is_one_whichever_way_it_is_spelt(
    labels: list[Any], names: list[str], found: dict[str, int], tmp_path: Path
) -> None:
    summary = prepare(write(tmp_path, labels * 20), tmp_path)
    assert summary.labels == names
    assert (summary.found, summary.cleaned) == (found, found)
    assert summary.remaining("label_spelling") == 0
    assert sum(summary.rows.values()) == 20 * len(labels)


def test_a_label_is_one_whichever_type_it_has(tmp_path: Path) -> None:
    parts: dict[str, list[Any]] = {"train": [0, 1] * 30, "test": ["0", "1"] * 10}
    for split, labels in parts.items():
        texts = [f"{split}{n} x{n} y{n}" for n in range(len(labels))]
        datasets.Dataset.from_dict({"text": texts, "label": labels}).to_parquet(tmp_path / f"{split}.parquet")
    summary = prepare(tmp_path, tmp_path / "out")
    assert summary.labels == ["0", "1"]
    assert summary.rows["test"] == 20


def test_a_class_labels_names_are_spelt_like_all_others(tmp_path: Path) -> None:
    feature = datasets.Features(
        text=datasets.Value("string"), label=datasets.ClassLabel(names=["z ", "a", "z"])
    )
    rows = {"text": [f"t{n} u{n} v{n}" for n in range(60)], "label": [0, 1, 2] * 20}
    datasets.Dataset.from_dict(rows, features=feature).save_to_disk(str(tmp_path / "saved"))
    assert prepare(tmp_path / "saved", tmp_path).labels == ["z", "a"]


def test_the_same_text_under_two_spellings_of_a_label_is_no_conflict(tmp_path: Path) -> None:
    texts = [f"t{n} u{n} v{n}" for n in range(40)] + ["t0 u0 v0"]
    summary = prepare(write(tmp_path, ["a", "b"] * 20 + ["a "], texts), tmp_path)
    assert summary.dropped == {"duplicate": 1}


@pytest.mark.parametrize(
    ("labels", "check", "rows", "message"),
    [
        (["Neg", "pos", "neg", "pos"], "label_alike", 40, "'Neg' and 'neg' differ by case"),
        (["True", "false", "TRUE", "False"], "label_alike", 80, "'True' and 'TRUE' differ by case"),
        (["neg", "pos", "n\u200beg"], "label_alike", 40, r"'neg' and 'n\u200beg' differ by case"),
        (["neg", "pos", "nan"], "label_none", 20, "label 'nan' of 20 rows reads like no label"),
        (["neg", "pos", "N/A", "NULL"], "label_none", 40, "label 'NULL' of 20 rows reads like no label"),
        (
            ["['a', 'b']", "['a']"],
            "label_several",
            40,
            "label \"['a', 'b']\" of 20 rows reads like several labels",
        ),
        (["a|b", "a", "b"], "label_several", 20, "label 'a|b' of 20 rows reads like several labels"),
        ([["A"], ["a", "none"]], "label_alike", 40, "'A' and 'a' differ by case"),
    ],
)
def test_labels_that_look_like_a_slip_are_kept_and_told(
    labels: list[Any], check: str, rows: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = prepare(write(tmp_path, labels * 20), tmp_path)
    assert summary.found[check] == summary.remaining(check) == rows
    assert message in capsys.readouterr().out
    assert set(summary.labels) == {
        name for label in labels for name in (label if type(label) is list else [label])
    }


def test_a_class_too_rare_is_told_beside_the_one_that_it_looks_like(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"class 'Pos' has 2 rows of 42 \(there is 'pos' too: make them one"):
        prepare(write(tmp_path, ["neg", "pos"] * 20 + ["Pos"] * 2), tmp_path)


def test_a_label_of_any_length_makes_no_long_error_or_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = "x" * 50_000
    prepare(write(tmp_path, [f"{long}a", f"{long}A"] * 20), tmp_path / "told")
    assert "differ by case" in (output := capsys.readouterr().out)
    with pytest.raises(InputError) as refused:
        prepare(write(tmp_path, ["a", "b", "c"] * 20 + [long]), tmp_path / "refused")
    assert len(str(refused.value)) < 1000 > max(map(len, output.splitlines()))
    with pytest.raises(InputError, match=r"has 300: .* and 290 more\. Give one") as refused:
        prepare(write(tmp_path, list(range(300)) * 3), tmp_path / "refused", label_names="a,b")


def test_rows_of_several_labels_count_once(tmp_path: Path) -> None:
    summary = prepare(write(tmp_path, [["a", "A", "nan"], ["b ", "c\t"], ["b", "c"]] * 20), tmp_path)
    assert summary.found == {"label_alike": 20, "label_none": 20, "label_spelling": 20}


def test_ordinary_labels_are_not_taken_for_slips(tmp_path: Path) -> None:
    labels = ["yes, please", "no", "(other)", "Polish food", "1", "10", "1.5", "A+", "A-", "1.1", "1.10"]
    assert prepare(write(tmp_path, labels * 20), tmp_path).found == {}


def test_the_page_shows_slips_of_labels_by_name(encoder: Path, tmp_path: Path) -> None:
    request = ReportRequest(tmp_path / "report.html", str(encoder), max_length=12)
    source = write(tmp_path, ["Neg", "neg", "pos", "nan", "pos "] * 20)
    preparation.prepare(DataSettings(dataset_id=str(source)), tmp_path / "dataset", request)
    page = request.path.read_text()
    for words in (
        "another by case or the like only",
        "reads like none",
        "written otherwise",
        "20 rows · nan",
    ):
        assert words in page


def test_classes_in_parquet_have_the_names_that_datasets_wrote_there(tmp_path: Path) -> None:
    features = datasets.Features(
        text=datasets.Value("string"), label=datasets.ClassLabel(names=["zebra", "ant"])
    )
    texts = [f"text{n} number{n} word{n} say{n}" for n in range(60)]
    rows = datasets.Dataset.from_dict({"text": texts, "label": [0, 1, -1] * 20}, features=features)
    rows.to_parquet(tmp_path / "rows.parquet")
    summary = prepare(tmp_path / "rows.parquet", tmp_path, drop_unlabelled=True)
    assert summary.labels == ["zebra", "ant"]
    assert sum(summary.rows.values()) == 40
    (tmp_path / "parts").mkdir()
    rows.filter(lambda row: row["label"] >= 0).to_parquet(tmp_path / "parts" / "train-0.parquet")
    plain = {"text": [f"other{n} count{n} thing{n}" for n in range(20)], "label": [0, 1] * 10}
    datasets.Dataset.from_dict(plain).to_parquet(tmp_path / "parts" / "train-1.parquet")
    assert prepare(tmp_path / "parts", tmp_path / "of-parts").labels == ["0", "1"]
