"""Probes tell a server whose model will answer no more from one that is busy."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from kserve.model_repository import ModelRepository
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages

from miniml.model.classifier import Classifier
from miniml.model.engines import REFERENCE, Logits, TokenIds
from serving import health
from serving.dataplane import StrictDataPlane
from serving.inference import Inference, OverloadedError
from serving.predictor import Predictor
from serving.settings import QueueSettings
from tests import patience, tiny
from tests.predictor import NAME, Server, running

ENDS = """
import sys
from serving.__main__ import main
from serving.batch_queue import BatchQueue

def take_once(queue):
    take(queue)
    raise SystemExit  # which ends a thread in silence

take, BatchQueue.take = BatchQueue.take, take_once
sys.exit(main())
"""
PROBES = ("/v2/health/live", "/v2/health/ready", f"/v2/models/{NAME}/ready", f"/v1/models/{NAME}")


class HeldEngine:
    """An engine that works until it is let go, and then answers, or ends its thread."""

    name = "held"

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        self.ends = False

    def __call__(self, token_ids: TokenIds, attention_mask: TokenIds) -> Logits:
        self.begun.set()
        assert self.go.wait(timeout=patience.SECONDS)
        if self.ends:
            raise SystemExit
        return token_ids[:, :2].astype("float32")


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_classifier(tmp_path_factory.mktemp("health") / "model")


@pytest.fixture
def inference(model_dir: Path) -> Inference:
    classifier = Classifier.load(model_dir)
    inference = Inference(classifier, QueueSettings(timeout_s=patience.SECONDS))
    inference.start(model_dir, REFERENCE)
    return inference


@pytest.fixture
def engine(inference: Inference) -> Iterator[HeldEngine]:
    engine = HeldEngine()
    inference.classifier = inference.classifier.on(engine)
    yield engine
    engine.go.set()


def probed(inference: Inference) -> tuple[bool, bool]:
    """Whether a server with this model is live, and whether it is ready."""
    models = ModelRepository()
    models.update(Predictor(NAME, inference))
    plane = StrictDataPlane(models)
    live = asyncio.run(plane.live())
    assert asyncio.run(plane.ready()) == asyncio.run(plane.model_ready(NAME))
    return live["status"] == "alive", asyncio.run(plane.ready())


def asked(inference: Inference, engine: HeldEngine) -> None:
    """Has the engine begin with a text, and does not wait for the answer."""

    async def work() -> None:
        asking = asyncio.create_task(inference.predict(["good"]))
        while not engine.begun.is_set():
            await asyncio.sleep(0.001)
        asking.cancel()

    asyncio.run(work())


def test_an_engine_that_is_busy_is_healthy(inference: Inference, engine: HeldEngine) -> None:
    assert probed(inference) == (True, True)
    asked(inference, engine)
    assert probed(inference) == (True, True)


def test_an_engine_that_hangs_fails_every_probe_until_it_goes_on(
    inference: Inference,
    engine: HeldEngine,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(health, "SECONDS_UNTIL_HUNG", 0.0)
    inference.tokens_per_second = float("inf")  # a batch should be done at once
    asked(inference, engine)
    assert probed(inference) == (False, False)
    assert [record.getMessage() for record in caplog.records] == [
        "the engine hangs: one piece of work should long be done. Restart this server."
    ]
    with pytest.raises(OverloadedError, match="does not answer"):
        asyncio.run(inference.predict(["good"]))
    engine.go.set()
    patience.wait_until(lambda: probed(inference) == (True, True))


def test_a_tokenizer_that_hangs_fails_every_probe(
    inference: Inference, engine: HeldEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "SECONDS_UNTIL_HUNG", 0.0)
    with inference.tokenizer.worker.working(0.0):
        assert probed(inference) == (False, False)
    assert probed(inference) == (True, True)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_engine_whose_thread_has_ended_fails_every_probe(inference: Inference, engine: HeldEngine) -> None:
    engine.ends = True
    engine.go.set()
    asked(inference, engine)
    patience.wait_until(lambda: probed(inference) == (False, False))
    with pytest.raises(OverloadedError, match="does not answer"):
        asyncio.run(inference.predict(["good"]))


@pytest.fixture(scope="module")
def server(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One whose engine ends with the first batch."""
    with running(model_dir, tmp_path_factory.mktemp("log") / "log", program=("-c", ENDS)) as server:
        yield server


def test_a_server_tells_over_every_protocol_that_its_engine_has_ended(server: Server) -> None:
    def statuses() -> list[int]:
        return [server.get(path).status_code for path in PROBES]

    def told_over_grpc() -> list[bool]:
        return [
            server.grpc.ServerLive(messages.ServerLiveRequest()).live,
            server.grpc.ServerReady(messages.ServerReadyRequest()).ready,
            server.grpc.ModelReady(messages.ModelReadyRequest(name=NAME)).ready,
        ]

    assert statuses() == [200] * 4
    assert told_over_grpc() == [True] * 3

    def is_told() -> bool:
        # Without the patience of these tests: an engine that has ended answers nothing.
        requests.post(
            f"{server.url}/predict",
            json={"text": "good"},
            headers={"X-Request-Timeout": "0.5"},
            timeout=patience.SECONDS,
        )
        return statuses() == [503] * 4

    patience.wait_until(is_told)
    assert told_over_grpc() == [False] * 3
    log = server.log.read_text()
    assert log.count("the thread of the engine has ended. Restart this server.") == 1
    assert "Traceback" not in log
