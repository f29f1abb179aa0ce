"""The page on the data."""

from __future__ import annotations

from pathlib import Path

import pytest

from miniml.data import preparation, prepared
from miniml.data.report_request import ReportRequest
from miniml.settings.data import DataSettings
from tests import tiny
from tests.browser import Browser, require_whole

HOSTILE = "<script>document.title = 'broken'</script> & <b>\x07"


def report(folder: Path, model_id: Path | str, **settings: object) -> tuple[prepared.DatasetSummary, str]:
    source = tiny.write_reviews(folder / "reviews.csv", rows=80)
    with source.open("a") as file:
        file.write(f'"{HOSTILE}",1\n{tiny.review(0, 0)},0\n')
    request = ReportRequest(folder / "report.html", str(model_id), max_length=12)
    settings = {"dataset_id": str(source), **settings}
    summary = preparation.prepare(DataSettings(**settings), folder / "dataset", request)  # type: ignore[arg-type]
    return summary, request.path.read_text(encoding="utf-8")


def test_it_tells_lengths_in_the_models_tokens_and_what_is_cut(encoder: Path, tmp_path: Path) -> None:
    summary, page = report(tmp_path, encoder)
    assert summary.length_unit == "tokens"
    # Ten words, one of them a number that is a piece for each digit, and [CLS] and [SEP].
    assert summary.lengths["median"] == 13
    assert summary.lengths["texts_cut"] > 0.5
    assert "max_length 12" in page
    assert summary.fingerprint in page
    assert prepared.load(tmp_path / "dataset")[1] == summary


def test_it_shows_what_was_found_and_what_became_of_it(encoder: Path, tmp_path: Path) -> None:
    summary, page = report(tmp_path, encoder)
    assert summary.found == {"html": 1, "control_characters": 1, "duplicate": 1}
    assert "train, row 80" in page
    assert "strip_html" in page
    assert tiny.review(0, 0) in page


def test_it_says_that_only_some_rows_were_drawn_and_by_what(encoder: Path, tmp_path: Path) -> None:
    _, page = report(tmp_path, encoder, max_rows=20)
    words = " ".join(page.split())
    assert "20 rows</p> <p>of 82 read; 1 were left out by the checks below" in words
    assert "and 20 of the other 81 were drawn (<code>max_rows</code> 20; 0 takes all)." in words


def test_what_texts_say_never_becomes_part_of_the_page(encoder: Path, tmp_path: Path) -> None:
    _, page = report(tmp_path, encoder)
    assert "<script" not in page
    assert "\x07" not in page


@pytest.mark.parametrize("missing", ["empty", "not_there"])
def test_without_a_tokenizer_it_counts_words_and_says_so(missing: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    summary, page = report(tmp_path, f"{tmp_path}/{missing}")
    assert summary.length_unit == "words and marks"
    assert "The tokenizer could not be had" in page


@pytest.mark.browser
@pytest.mark.parametrize(("width", "dark"), [(360, False), (390, True), (1000, False), (1000, True)])
def test_a_browser_shows_it_whole_on_any_screen_and_asks_nobody(
    encoder: Path, tmp_path: Path, browser: Browser, width: int, dark: bool
) -> None:
    report(tmp_path, encoder)
    require_whole(browser, tmp_path / "report.html", width, dark=dark)
