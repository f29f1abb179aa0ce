"""What waits for the engine, and which of it makes the next batch."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from serving.batch_queue import WINDOW, BatchQueue, QueuedRequest, QueuedText
from tests import patience


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def request(lengths: Sequence[int], loop: asyncio.AbstractEventLoop) -> QueuedRequest:
    return QueuedRequest.of([np.ones(length, dtype=np.int64) for length in lengths], 2, loop.create_future())


def lengths(batch: Sequence[QueuedText]) -> list[int]:
    return [len(text.token_ids) for text in batch]


def test_a_batch_is_what_came_while_the_engine_was_busy(loop: asyncio.AbstractEventLoop) -> None:
    queue = BatchQueue(token_budget=1000)
    for length in (20, 21, 22):
        queue.add(request([length], loop))
    assert lengths(queue.take()) == [20, 21, 22]
    assert queue.pending_tokens == 0


def test_an_idle_engine_waits_for_the_first_text_and_for_no_second(loop: asyncio.AbstractEventLoop) -> None:
    queue, taken = BatchQueue(token_budget=1000), []
    engine = threading.Thread(target=lambda: taken.append(queue.take()))
    engine.start()
    queue.add(request([5], loop))
    engine.join(timeout=patience.SECONDS)
    assert [lengths(batch) for batch in taken] == [[5]]


def test_a_batch_stays_within_its_budget_of_padded_tokens(loop: asyncio.AbstractEventLoop) -> None:
    queue = BatchQueue(token_budget=100)
    queue.add(request([30, 31, 32, 33, 34], loop))
    assert lengths(queue.take()) == [30, 31, 32]
    assert lengths(queue.take()) == [33, 34]


def test_a_text_over_the_budget_makes_a_batch_by_itself(loop: asyncio.AbstractEventLoop) -> None:
    queue = BatchQueue(token_budget=100)
    queue.add(request([500, 10], loop))
    assert lengths(queue.take()) == [500]
    assert lengths(queue.take()) == [10]


def test_texts_of_like_length_go_together(loop: asyncio.AbstractEventLoop) -> None:
    queue = BatchQueue(token_budget=2000)
    queue.add(request([10, 400, 12, 410, 11], loop))
    assert lengths(queue.take()) == [10, 11, 12]
    assert lengths(queue.take()) == [400, 410]


def test_no_text_starves_however_many_of_another_length_keep_coming(loop: asyncio.AbstractEventLoop) -> None:
    queue = BatchQueue(token_budget=1000)
    queue.add(request([10], loop))
    odd = request([400], loop)
    queue.add(odd)
    for turn in range(3):
        queue.add(request([10] * 20, loop))
        if any(text.request is odd for text in queue.take()):
            assert turn <= 1
            return
    pytest.fail("the long text was passed over")


def test_a_request_of_many_texts_and_one_of_few_take_turns(loop: asyncio.AbstractEventLoop) -> None:
    queue = BatchQueue(token_budget=200)
    many, few = request([10] * 500, loop), request([10, 10], loop)
    queue.add(many)
    queue.add(few)
    assert queue.tokens_before(request([10, 10], loop)) == 40
    batch = queue.take()
    assert len(batch) == 20
    assert not few.pending
    assert len(many.pending) == 500 - 18


def test_every_text_of_a_large_request_is_taken_once(loop: asyncio.AbstractEventLoop) -> None:
    queue = BatchQueue(token_budget=512)
    wanted = [1 + number * 7 % 90 for number in range(3 * WINDOW)]
    queue.add(request(wanted, loop))
    places = []
    while queue.pending_tokens:
        places += [text.place for text in queue.take()]
    assert sorted(places) == list(range(len(wanted)))


def test_what_was_dropped_is_not_run(loop: asyncio.AbstractEventLoop) -> None:
    queue = BatchQueue(token_budget=1000)
    gone, stays = request([10, 11], loop), request([12], loop)
    queue.add(gone)
    queue.add(stays)
    queue.drop(gone)
    queue.drop(gone)
    assert queue.pending_tokens == 12
    assert [text.request for text in queue.take()] == [stays]


def test_a_batch_is_known_to_be_alone_until_another_runs_or_waits(loop: asyncio.AbstractEventLoop) -> None:
    queue = BatchQueue(token_budget=100)
    queue.add(request([90], loop))
    queue.add(request([95], loop))
    queue.take()
    assert not queue.runs_alone  # one waits, to run beside it
    queue.take()
    assert not queue.runs_alone  # two run
    queue.done()
    assert queue.runs_alone


def test_texts_of_one_length_only_go_together_where_padding_would_change_their_answers(
    loop: asyncio.AbstractEventLoop,
) -> None:
    queue = BatchQueue(token_budget=1000)
    queue.max_padding = 0
    queue.add(request([10, 11, 10, 400, 11], loop))
    assert [lengths(queue.take()) for _ in range(3)] == [[10, 10], [11, 11], [400]]


def test_no_more_batches_run_than_the_engines_have_streams(loop: asyncio.AbstractEventLoop) -> None:
    queue, taken = BatchQueue(token_budget=10), []
    queue.max_running = 1
    queue.add(request([10, 10], loop))
    first = queue.take()
    second = threading.Thread(target=lambda: taken.append(queue.take()))
    second.start()
    assert not taken
    assert queue.idle_s == 0
    queue.done()
    second.join(timeout=patience.SECONDS)
    assert [lengths(batch) for batch in [first, *taken]] == [[10], [10]]
    queue.done()
    patience.wait_until(lambda: queue.idle_s > 0)
