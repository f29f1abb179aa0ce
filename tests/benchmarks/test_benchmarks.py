"""The load generator counts right, every peer answers as the model does, and the page tells what was measured."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from benchmarks import machine, page, peer
from benchmarks.ceiling import Ceiling
from benchmarks.load import Load, LoadResult, probe
from benchmarks.serving import Point, complete, evenly_mixed, half_of, machine_facts, running, servers
from miniml.compression.layers import number_of_layers
from miniml.errors import InputError
from miniml.model.classifier import Classifier
from miniml.processor import is_capped
from tests import patience, tiny
from tests.http_server import JsonHandler, LocalServer


class Counting(LocalServer):
    """Answers every third request with 503, every fifth with 500, and remembers the texts."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def handler(self) -> type[JsonHandler]:
        server = self

        class Handler(JsonHandler):
            def answer(self, method: str) -> None:
                server.texts.append(json.loads(self.read_body() or b'{"text": ""}')["text"])
                count = len(server.texts)
                self.send_answer(503 if count % 3 == 0 else 500 if count % 5 == 0 else 200, {})

        return Handler


@pytest.fixture
def counting() -> Iterator[Counting]:
    with Counting() as server:
        yield server


def load(server: Counting, texts: list[str]) -> Load:
    return Load(server.url, lambda text: {"text": text}, texts)


def test_refusals_and_failures_are_not_counted_as_answers(counting: Counting) -> None:
    result, seconds = LoadResult(), 0.1
    while len(result.latencies) < 10:  # on a busy machine few are answered in so short a time
        counting.texts.clear()
        seconds *= 2
        result = asyncio.run(load(counting, ["a", "b"]).closed(clients=1, seconds=seconds))
    sent = len(counting.texts)
    assert sent == len(result.latencies) + result.refused + result.failed
    assert result.refused == sent // 3
    assert result.failed == sent // 5 - sent // 15
    assert counting.texts[:4] == ["a", "b", "a", "b"]
    assert result.rate == pytest.approx(len(result.latencies) / result.seconds)


def test_a_server_that_is_gone_fails_every_request() -> None:
    with Counting() as server:
        gone = load(server, ["a"])
    result = asyncio.run(gone.open(rate=100, seconds=0.1))
    assert result.failed > 0
    assert not result.latencies


def test_the_open_loop_sends_as_much_as_was_asked_for_and_the_same_each_time(counting: Counting) -> None:
    sent = []
    for _ in range(2):
        before = len(counting.texts)
        asyncio.run(load(counting, ["a"]).open(rate=200, seconds=0.5))
        sent.append(len(counting.texts) - before)
    assert sent[0] == sent[1]
    assert 50 < sent[0] < 200


def test_a_probe_that_is_not_answered_took_forever(counting: Counting) -> None:
    latencies, seconds = [0.0], 0.1
    while len(latencies) < 3:
        counting.texts.clear()
        seconds *= 2
        latencies = asyncio.run(probe(counting.url, seconds=seconds, every=0.01))
    assert latencies[0] < math.inf
    assert latencies[2] == math.inf  # the third is refused


def test_a_server_that_runs_already_is_loaded_with_one_number_of_clients_after_the_other(
    counting: Counting,
) -> None:
    found = dict(peer.measure(counting.url, "text", ["a", "b"], clients=[1, 3], seconds=0.2))
    assert list(found) == [1, 3]
    assert set(counting.texts) == {"a", "b"}
    sent = sum(len(result.latencies) + result.refused + result.failed for result in found.values())
    assert sent == len(counting.texts)


def test_percentiles_are_in_milliseconds() -> None:
    result = LoadResult(seconds=2.0, latencies=[number / 1_000 for number in range(1, 101)])
    assert result.percentile(50) == pytest.approx(50.5)
    assert result.rate == 50


def test_every_peer_serves_the_model_and_answers_as_it_does(tmp_path: Path) -> None:
    folder = tiny.write_classifier(tmp_path / "model", labels=("1", "2", "3"))
    classifier = Classifier.load(folder)
    text = tiny.review(1, 1)
    (expected,) = classifier.predict_probabilities([text])
    for server in servers(classifier.labels)[:2]:  # LitServe takes seconds to end
        with running(server, folder, threads=1) as (url, started):
            answer = requests.post(url + server.path, json=server.body(text), timeout=patience.SECONDS)
            assert started > 0
        assert server.probabilities(answer.json()) == pytest.approx(expected.tolist(), abs=1e-4), server.title


def recorded(ours: float) -> dict[str, Any]:
    """A made-up run in which ours answers `ours` requests a second, and the others 10."""
    points = [
        vars(
            Point(
                server,
                "closed",
                clients,
                {"d": ours, "f": 2 * ours}.get(server, 10.0),
                8.0 if server == "d" else 80.0,
                90,
                99,
                0,
                0,
            )
        )
        for server in "abcdf"
        for clients in (1, 4, 16, 64)
    ]
    points += [vars(Point(server, "open", 8.0, 8.0, 50, 60, 70, 1, 0)) for server in "abcdf"]
    return {
        "machine": {"processor": "P", "kind": "avx2", "python": "3", "versions": "V 1", "date": "2026-01-01"},
        "command": "make bench-serve",
        "texts": {"count": 10, "mean_tokens": 20, "median_tokens": 20, "longest": 30},
        "points": points,
        "agreement": {server: {"labels": 0.995, "largest": 0.01} for server in "abcd"},
        "liveness_ms": 12.0,
        "starts": [5.0, 7.0, 5.5],
        "rounds": 1,
        "compared": 10,
        "smaller": {"layers": 3, "of": 6, "given": False},
        "ceiling": {
            "engine": "E",
            "table": "T",
            "rate": 50.0,
            "rates": [50.0],
            "single_p50_ms": 7.0,
            "flops_per_text": 4e9,
            "gflops": 200.0,
            "matrix_gflops": {"float32": 100.0, "bfloat16": 400.0},
            "share": 0.5,
        },
    }


def test_an_aim_that_was_missed_is_called_missed() -> None:
    met = [reached for *_, reached in page.aims(recorded(ours=45.0))]
    assert met == [True] * 10
    met = [reached for *_, reached in page.aims(recorded(ours=39.0))]
    assert met == [False, True, True, False, True, True, True, True, True, True]


def test_the_page_tells_the_figures_of_the_run() -> None:
    section = page.serving_section(recorded(ours=39.0))
    assert "| (d) miniml | **39.0** (8, 99) |" in section
    assert "(e) reaches **50.0** texts/s (50.0 in the rounds)" in section
    assert "3 of 6 layers, whose answers are worth nothing, for its speed alone" in section
    assert "**50%** of the faster" in section
    assert "take 10.0 ms, and an eighth of (a)'s p50 is 10.0 ms" in section
    assert "1 refused" in section


def test_a_figure_is_the_median_of_the_rounds_and_a_ratio_that_of_their_ratios() -> None:
    result: dict[str, Any] = recorded(ours=40.0)
    slow, fast, odd = (recorded(ours=ours)["points"] for ours in (40.0, 60.0, 55.0))
    for point in fast:
        point["rate"] *= 2
    result |= {"points": [*slow, *fast, *odd], "rounds": 3}
    result["ceiling"]["rates"] = [50.0, 120.0, 110.0]
    figures = {aim: figure for aim, figure, *_ in page.aims(result)}
    assert figures["requests/s at 16 clients, (d) to (a)"] == "5.50"
    assert figures["requests/s at 64 clients, (d) to (e)"] == "0.80"
    section = page.serving_section(result)
    assert "| (a) naive API | **10.0** (80, 99) |" in section
    assert "| (d) miniml | **55.0** (8, 99) |" in section
    assert "(50.0, 120.0 and 110.0 in the rounds)" in section
    assert "3 refused" in section


def test_the_page_says_where_a_larger_processor_stood_in() -> None:
    result = recorded(ours=40.0)
    assert "larger processor" not in page.serving_section(result)
    result["machine"] |= {"kind": "avx2 (capped)"}
    assert "limit a larger processor to these features" in page.serving_section(result)


def test_the_page_tells_of_the_parts_that_were_measured_and_needs_the_load() -> None:
    result = recorded(ours=40.0)
    section = page.serving_section(complete(result))
    assert "### The same answers" in section
    assert "5.0, 5.5, 7.0 s." in section
    del result["starts"], result["agreement"]
    section = page.serving_section(complete(result))
    assert "### The same answers" not in section
    assert "### The start" not in section
    assert len(page.aims(result)) == 8
    del result["points"]
    with pytest.raises(InputError, match="--parts load"):
        complete(result)


def test_any_stretch_of_the_sent_texts_is_as_long_in_the_mean_as_all_of_them() -> None:
    lengths = [number**2 for number in range(300)]
    sent = evenly_mixed([str(length) for length in lengths], lengths)
    assert sorted(map(int, sent)) == lengths
    mean = sum(lengths) / len(lengths)
    for begin in range(0, 300, 50):
        assert sum(map(int, sent[begin : begin + 50])) / 50 == pytest.approx(mean, rel=0.06)


def test_the_ceiling_is_that_of_the_engine_over_the_texts(tmp_path: Path) -> None:
    folder = tiny.write_classifier(tmp_path / "model")
    ceiling = Ceiling(folder, [tiny.review(number % 2, number) for number in range(100)], threads=1)
    ceiling.measure(seconds=0.1)
    ceiling.measure(seconds=0.1)
    result = ceiling.result()
    assert len(result["rates"]) == 2
    assert min(result["rates"]) <= result["rate"] <= max(result["rates"])
    assert all(engine in result["table"] for engine in result["engine"].split(" and "))
    assert result["flops_per_text"] > 0


def test_the_smaller_model_of_the_benchmark_has_half_of_the_layers(tmp_path: Path) -> None:
    folder = tiny.write_classifier(tmp_path / "model")
    half = half_of(folder, tmp_path / "half")
    assert number_of_layers(half) == number_of_layers(folder) // 2
    assert Classifier.load(half).labels == Classifier.load(folder).labels


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of documentation, where the page is written to."""
    monkeypatch.setattr(page, "DOCS", tmp_path)
    monkeypatch.setattr(page, "PAGE", tmp_path / "benchmarks.md")
    return tmp_path / "benchmarks.md"


def section(reached: str) -> str:
    return "\n" + page.aims_table([("speed", reached, "≥ 4", True)]) + "\n"


def test_a_run_replaces_the_section_of_its_own_kind_of_processor_and_no_other(written: Path) -> None:
    page.put_section("serving", section("4.1"), "amx_bf16")
    page.put_section("data", "\nrows\n")
    page.put_section("serving", section("1.7"), "avx2")
    page.put_section("serving", section("1.5"), "avx2 (capped)")
    page.put_section("serving", section("4.2"), "amx_bf16")
    text = written.read_text()
    assert "4.1" not in text
    assert "\nrows\n" in text
    begins = [text.index(f"<!-- serving {kind} -->") for kind in ("amx_bf16", "avx2", "avx2 (capped)")]
    assert (
        text.index("<!-- serving-kinds -->") < begins[0] < begins[1] < begins[2] < text.index("<!-- data -->")
    )
    assert "| 4.2 | ≥ 4 | yes |" in text[begins[0] : begins[1]]
    assert "| 1.7 | ≥ 4 | yes |" in text[begins[1] : begins[2]]


def test_what_each_kind_of_processor_has_reached_stands_side_by_side(written: Path) -> None:
    page.put_section("serving", section("4.1"), "amx_bf16")
    page.put_section("serving", section("1.7"), "avx2")
    table = "| serving, by kind of processor | amx_bf16 | avx2 | wanted |\n|---|---|---|---|\n"
    assert table + "| speed | 4.1 | 1.7 | ≥ 4 |\n" in written.read_text()
    page.put_section("serving", section("1.9"), "avx2")
    assert table + "| speed | 4.1 | 1.9 | ≥ 4 |\n" in written.read_text()


def test_a_processor_that_is_told_to_do_with_less_is_a_kind_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    own = machine.kind()
    assert "a cap hides" not in machine.described("torch")["processor"]
    assert own in page.serving_section({**recorded(ours=39.0), "machine": machine_facts(threads=2)})
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
    if is_capped():
        assert machine.kind().endswith(" (capped)")
        assert "a cap hides" in machine.described("torch")["processor"]
    assert page.chart_of("serving", "avx2 (capped)") == "benchmarks-serving-avx2-capped.svg"
