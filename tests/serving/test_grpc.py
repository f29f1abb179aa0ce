"""V2 over gRPC: what it answers, and what each failure is called."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
import numpy as np
import pytest
from grpc import StatusCode, aio
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse  # type: ignore[import-untyped]
from grpc_health.v1.health_pb2_grpc import HealthStub  # type: ignore[import-untyped]
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest  # type: ignore[import-untyped]
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub  # type: ignore[import-untyped]
from kserve import ModelRepository
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

from miniml.model.classifier import Classifier
from miniml.tasks import SingleLabelPrediction
from serving.dataplane import ClosedRepository, StrictDataPlane
from serving.grpc_server import Certificate, GrpcServer, Servicer, interceptors
from serving.grpc_services import MAX_STREAMS, HealthService
from serving.inference import OverloadedError
from serving.predictor import Predictor
from serving.settings import Limits
from tests import patience
from tests.ports import free_port
from tests.predictor import NAME, Server, infer_message, raw_tensor

TEXTS = ["the food was great and tasty", "schön, aber kalt", ""]
LABELS = ["bad", "so so", "gut & schön"]
SERVICE = "/inference.GRPCInferenceService"


@pytest.fixture(scope="module")
def expected(tiny_model: Path) -> list[SingleLabelPrediction]:
    return Classifier.load(tiny_model, SingleLabelPrediction).predict(TEXTS)


def status_of(call: Any, request: Any) -> tuple[StatusCode, str]:
    with pytest.raises(grpc.RpcError) as failed:
        call(request, timeout=patience.SECONDS)
    return failed.value.code(), failed.value.details()


@pytest.mark.parametrize("shape", [[3], [3, 1]])
def test_contents_are_answered_with_contents(
    server: Server, expected: list[SingleLabelPrediction], shape: list[int]
) -> None:
    request = infer_message(TEXTS, id="ü 7")
    request.inputs[0].shape[:] = shape
    answer = server.grpc.ModelInfer(request)
    assert (answer.model_name, answer.id) == (NAME, "ü 7")
    assert [(output.name, output.datatype, list(output.shape)) for output in answer.outputs] == [
        ("label", "BYTES", [3]),
        ("score", "FP32", [3]),
        ("probabilities", "FP32", [3, 3]),
    ]
    label, score, probabilities = (output.contents for output in answer.outputs)
    assert [name.decode() for name in label.bytes_contents] == [one.label for one in expected]
    assert list(score.fp32_contents) == pytest.approx([one.score for one in expected], abs=1e-4)
    shares = [share for one in expected for share in one.probabilities.values()]
    assert list(probabilities.fp32_contents) == pytest.approx(shares, abs=1e-4)
    assert json.loads(answer.parameters["labels"].string_param) == LABELS


def test_a_raw_tensor_is_answered_with_raw_tensors(
    server: Server, expected: list[SingleLabelPrediction]
) -> None:
    answer = server.grpc.ModelInfer(infer_message(TEXTS, raw=True))
    label, score, probabilities = answer.raw_output_contents
    assert label == raw_tensor([one.label.encode() for one in expected])
    assert np.frombuffer(score, "<f4") == pytest.approx([one.score for one in expected], abs=1e-4)
    rows = [list(one.probabilities.values()) for one in expected]
    assert np.frombuffer(probabilities, "<f4").reshape(3, 3) == pytest.approx(np.array(rows), abs=1e-4)
    assert not any(output.HasField("contents") for output in answer.outputs)


@pytest.mark.parametrize("raw", [False, True])
def test_only_the_outputs_that_are_asked_for_are_given_in_their_order(server: Server, raw: bool) -> None:
    asked = [{"name": "probabilities"}, {"name": "label"}, {"name": "label"}]
    answer = server.grpc.ModelInfer(infer_message(["good"], raw=raw, outputs=asked))
    assert [output.name for output in answer.outputs] == ["probabilities", "label"]
    assert len(answer.raw_output_contents) == (2 if raw else 0)


def test_parameters_may_be_sent(server: Server) -> None:
    parameters = {
        "a": messages.InferParameter(bool_param=True),
        "b": messages.InferParameter(string_param="x"),
        "c": messages.InferParameter(int64_param=-1),
    }
    request = infer_message(["good"], parameters=parameters)
    request.inputs[0].parameters["d"].string_param = "y"
    assert len(server.grpc.ModelInfer(request).outputs) == 3


def two_inputs() -> Any:
    request = infer_message(["a"])
    request.inputs.add().CopyFrom(request.inputs[0])
    return request


def changed(raw: bytes | None = None, **tensor: Any) -> Any:
    """A request that is right but for this."""
    request = infer_message(["a"], raw=raw is not None)
    if raw is not None:
        request.raw_input_contents[0] = raw
    for name, value in tensor.items():
        if name == "shape":
            request.inputs[0].shape[:] = value
        else:
            setattr(request.inputs[0], name, value)
    return request


def both_forms() -> Any:
    request = infer_message(["a"])
    request.raw_input_contents.append(b"")
    return request


@pytest.mark.parametrize(
    ("request_message", "status", "message"),
    [
        (changed(shape=[2]), "INVALID_ARGUMENT", "inputs[0] has a shape that its data does not fill."),
        (changed(shape=[2**62]), "INVALID_ARGUMENT", "inputs[0] has a shape that its data does not fill."),
        (changed(shape=[-1]), "INVALID_ARGUMENT", "inputs[0] has a shape other than [n] or [n, 1]"),
        (changed(shape=[1, 1, 1]), "INVALID_ARGUMENT", "inputs[0] has a shape other than [n] or [n, 1]"),
        (changed(shape=[]), "INVALID_ARGUMENT", "inputs[0] has a shape other than [n] or [n, 1]"),
        (changed(datatype="FP32"), "INVALID_ARGUMENT", "inputs[0] has a datatype other than BYTES."),
        (changed(datatype="ä"), "INVALID_ARGUMENT", "inputs[0] has a datatype other than BYTES."),
        (changed(raw=b"\5\0\0\0abc"), "INVALID_ARGUMENT", "inputs[0] ends within a text."),
        (changed(raw=b"\xff\xff\xff\xffabc"), "INVALID_ARGUMENT", "inputs[0] ends within a text."),
        (changed(raw=b"\1\0"), "INVALID_ARGUMENT", "inputs[0] ends within a text."),
        (changed(raw=b"\1\0\0\0\xff"), "INVALID_ARGUMENT", "inputs[0].data[0] is not valid UTF-8."),
        (changed(raw=b""), "INVALID_ARGUMENT", "inputs[0] has a shape that its data does not fill."),
        (infer_message([b"a", b"\xc3"]), "INVALID_ARGUMENT", "inputs[0].data[1] is not valid UTF-8."),
        (two_inputs(), "INVALID_ARGUMENT", "the request has 2 inputs."),
        (messages.ModelInferRequest(model_name=NAME), "INVALID_ARGUMENT", "the request has 0 inputs."),
        (both_forms(), "INVALID_ARGUMENT", "inputs[0] has contents beside raw_input_contents."),
        (
            infer_message(["a"], raw=True, outputs=[{"name": "logits"}]),
            "INVALID_ARGUMENT",
            "outputs[0] does not exist. Ask for label, score, probabilities.",
        ),
        (
            infer_message(["a"], model_name="nobody"),
            "NOT_FOUND",
            "no model has that name. GET /v1/models lists",
        ),
        (infer_message(["a"], model_version="3"), "NOT_FOUND", "models have no versions here."),
    ],
)
def test_what_is_wrong_with_a_request_is_said(
    server: Server, request_message: Any, status: str, message: str
) -> None:
    code, details = status_of(server.grpc.ModelInfer, request_message)
    assert (code.name, details[: len(message)]) == (status, message)


def many(**fields: Any) -> Any:
    request = infer_message(["a"])
    request.MergeFrom(messages.ModelInferRequest(**fields))
    return request


@pytest.mark.parametrize(
    ("request_message", "message"),
    [
        (infer_message([""] * 10**5), "the request has 100000 texts, of 1000"),
        (infer_message([""] * 10**5, raw=True), "the request has 1001 texts, of 1000"),
        (changed(shape=[1] * 10**5), "inputs[0].shape has 100000 entries"),
        (many(inputs=[{}] * 10**5), "the request has 100001 inputs."),
        (many(outputs=[{}] * 10**5), "outputs has 100000 entries, of 100"),
        (many(raw_input_contents=[b""] * 10**5), "raw_input_contents holds 100000 tensors"),
        (many(parameters={str(number): {} for number in range(10**4)}), "parameters has 10000 entries"),
    ],
)
def test_a_message_of_very_many_parts_is_refused_before_they_are_looked_at(
    server: Server, request_message: Any, message: str
) -> None:
    code, details = status_of(server.grpc.ModelInfer, request_message)
    assert (code, details[: len(message)]) == (StatusCode.INVALID_ARGUMENT, message)


def test_a_compressed_message_comes_to_no_more_than_the_limit(server: Server) -> None:
    with pytest.raises(grpc.RpcError) as failed:
        server.grpc.ModelInfer(
            infer_message(["a" * 2**26]), timeout=patience.SECONDS, compression=grpc.Compression.Gzip
        )
    assert failed.value.code() is StatusCode.RESOURCE_EXHAUSTED
    small = infer_message(["good " * 50])
    answer = server.grpc.ModelInfer(small, timeout=patience.SECONDS, compression=grpc.Compression.Gzip)
    assert len(answer.outputs) == 3


def test_grpcs_own_tools_find_the_services_and_their_health(server: Server) -> None:
    health = HealthStub(server.channel)
    for name in ("", SERVICE[1:]):
        assert health.Check(HealthCheckRequest(service=name)).status == HealthCheckResponse.SERVING
    watch = health.Watch(HealthCheckRequest())
    assert next(watch).status == HealthCheckResponse.SERVING
    watch.cancel()
    assert status_of(health.Check, HealthCheckRequest(service="nobody"))[0] is StatusCode.NOT_FOUND
    asked = ServerReflectionRequest(list_services="")
    (answer,) = ServerReflectionStub(server.channel).ServerReflectionInfo(iter([asked]))
    names = {service.name for service in answer.list_services_response.service}
    assert {SERVICE[1:], "grpc.health.v1.Health"} <= names


def test_health_follows_the_model_and_ends_with_the_server() -> None:
    async def ask() -> None:
        models = ModelRepository()
        models.update(Predictor(NAME, Patient()))  # type: ignore[arg-type]
        servicer, health = services(models)
        port = free_port()
        server = GrpcServer(port, interceptors(), message_bytes=2**20)
        await server.start(servicer, health)
        async with aio.insecure_channel(f"localhost:{port}") as channel:
            watch = HealthStub(channel).Watch(HealthCheckRequest())
            assert (await watch.read()).status == HealthCheckResponse.SERVING
            models.get_model(NAME).ready = False
            assert (await watch.read()).status == HealthCheckResponse.NOT_SERVING
            models.get_model(NAME).ready = True
            assert (await watch.read()).status == HealthCheckResponse.SERVING
            stopping = asyncio.create_task(server.stop(0.1))
            assert (await watch.read()).status == HealthCheckResponse.NOT_SERVING
            await stopping

    asyncio.run(ask())


def test_few_streams_may_be_open_and_calls_are_answered_beside_them(server: Server) -> None:
    health = HealthStub(server.channel)
    watches = [health.Watch(HealthCheckRequest()) for _ in range(MAX_STREAMS)]
    assert all(next(watch).status == HealthCheckResponse.SERVING for watch in watches)
    with pytest.raises(grpc.RpcError) as refused:
        next(health.Watch(HealthCheckRequest()))
    assert refused.value.code() is StatusCode.RESOURCE_EXHAUSTED
    assert len(server.grpc.ModelInfer(infer_message(["a"])).outputs) == 3
    for watch in watches:
        watch.cancel()


def test_what_is_no_message_is_refused_without_the_parsers_words(server: Server) -> None:
    assert server.channel
    call = server.channel.unary_unary(f"{SERVICE}/ModelInfer")
    assert status_of(call, b"\xff\xff\xff") == (
        StatusCode.INVALID_ARGUMENT,
        "the request is not the message of this method.",
    )


def test_a_message_over_the_limit_is_refused(server: Server) -> None:
    code, details = status_of(server.grpc.ModelInfer, infer_message(["a" * 2**23]))
    assert code is StatusCode.RESOURCE_EXHAUSTED
    assert str(2**23) in details


def test_nobody_can_unload_the_model_over_grpc(server: Server) -> None:
    unload = messages.RepositoryModelUnloadRequest(model_name=NAME)
    load = messages.RepositoryModelLoadRequest(model_name=NAME)
    for call, request in (
        (server.grpc.RepositoryModelUnload, unload),
        (server.grpc.RepositoryModelLoad, load),
    ):
        code, details = status_of(call, request)
        assert code is StatusCode.PERMISSION_DENIED
        assert "The model is chosen when the server starts" in details
    assert len(server.grpc.ModelInfer(infer_message(["still there"])).outputs) == 3


def test_metadata_tells_the_real_inputs_and_outputs_over_grpc(server: Server) -> None:
    model = server.grpc.ModelMetadata(messages.ModelMetadataRequest(name=NAME))
    tensors = [
        (tensor.name, tensor.datatype, list(tensor.shape)) for tensor in (*model.inputs, *model.outputs)
    ]
    assert tensors == [
        ("text", "BYTES", [-1]),
        ("label", "BYTES", [-1]),
        ("score", "FP32", [-1]),
        ("probabilities", "FP32", [-1, 3]),
    ]
    assert server.grpc.ModelReady(messages.ModelReadyRequest(name=NAME)).ready
    assert server.grpc.ServerReady(messages.ServerReadyRequest()).ready
    assert server.grpc.ServerLive(messages.ServerLiveRequest()).live
    assert list(server.grpc.ServerMetadata(messages.ServerMetadataRequest()).extensions) == [
        "binary_tensor_data"
    ]
    code, _ = status_of(server.grpc.ModelReady, messages.ModelReadyRequest(name="nobody"))
    assert code is StatusCode.NOT_FOUND


class Patient:
    """Inference that never ends by itself: it tells when it was asked, how long it had, and when it was dropped."""

    labels = ("bad", "good")
    healthy = True

    def __init__(self, refusal: Exception | None = None) -> None:
        self.asked, self.dropped = asyncio.Event(), asyncio.Event()
        self.timeout_s: float | None = None
        self._refusal = refusal

    async def predict(
        self, texts: Sequence[str], *, timeout_s: float | None = None
    ) -> list[SingleLabelPrediction]:
        self.timeout_s = timeout_s
        self.asked.set()
        if self._refusal:
            raise self._refusal
        try:
            await asyncio.Event().wait()
        finally:
            self.dropped.set()
        return []


def services(models: ModelRepository) -> tuple[Servicer, HealthService]:
    """What our server serves of `models`."""
    data_plane = StrictDataPlane(models)
    return Servicer(data_plane, ClosedRepository(models), Limits()), HealthService(data_plane)


@asynccontextmanager
async def grpc_server(
    inference: Patient, certificate: Certificate | None = None
) -> AsyncIterator[tuple[GrpcServer, str]]:
    """Our server around `inference`, in this process, and its address."""
    models = ModelRepository()
    models.update(Predictor(NAME, inference))  # type: ignore[arg-type]
    port = free_port()
    server = GrpcServer(port, interceptors(), message_bytes=2**20, certificate=certificate)
    await server.start(*services(models))
    try:
        yield server, f"localhost:{port}"
    finally:
        await server.stop(0)


async def refusal_of(call: Any) -> aio.AioRpcError:
    with pytest.raises(aio.AioRpcError) as failed:
        await call
    return failed.value


def test_the_clients_deadline_is_handed_on() -> None:
    async def ask() -> None:
        inference = Patient()
        async with grpc_server(inference) as (_, address), aio.insecure_channel(address) as channel:
            stub = GRPCInferenceServiceStub(channel)
            call = stub.ModelInfer(infer_message(["a"]), timeout=patience.SECONDS)
            await asyncio.wait_for(inference.asked.wait(), patience.SECONDS)
            assert inference.timeout_s is not None
            # A long one travels in whole seconds, rounded up.
            assert 0 < inference.timeout_s <= patience.SECONDS + 1
            call.cancel()

    asyncio.run(ask())


def test_the_end_of_the_clients_deadline_drops_the_work() -> None:
    async def ask() -> None:
        inference = Patient()
        async with grpc_server(inference) as (_, address), aio.insecure_channel(address) as channel:
            stub, deadline = GRPCInferenceServiceStub(channel), 0.25
            while not inference.asked.is_set():  # where the machine is busy, a short one ends on the way
                deadline *= 2
                error = await refusal_of(stub.ModelInfer(infer_message(["a"]), timeout=deadline))
                assert error.code() is StatusCode.DEADLINE_EXCEEDED
            await asyncio.wait_for(inference.dropped.wait(), patience.SECONDS)

    asyncio.run(ask())


def test_a_connection_that_stays_silent_keeps_no_server() -> None:
    async def stop() -> None:
        async with grpc_server(Patient()) as (server, address):
            host, _, port = address.partition(":")
            with socket.create_connection((host, int(port))):
                # It takes one or two; gRPC by itself would wait for 20.
                await asyncio.wait_for(server.stop(patience.SECONDS), 15)

    asyncio.run(stop())


def test_a_call_without_a_deadline_has_none() -> None:
    async def ask() -> None:
        inference = Patient(OverloadedError("2000 texts wait already.", retry_after_s=3))
        async with grpc_server(inference) as (_, address), aio.insecure_channel(address) as channel:
            error = await refusal_of(GRPCInferenceServiceStub(channel).ModelInfer(infer_message(["a"])))
            assert inference.timeout_s is None
            assert error.code() is StatusCode.UNAVAILABLE
            assert error.details() == "2000 texts wait already. Try again in 3 s."
            assert dict(error.trailing_metadata())["grpc-retry-pushback-ms"] == "3000"

    asyncio.run(ask())


def test_a_call_that_its_client_cancels_is_dropped() -> None:
    async def ask() -> None:
        inference = Patient()
        async with grpc_server(inference) as (_, address), aio.insecure_channel(address) as channel:
            call = GRPCInferenceServiceStub(channel).ModelInfer(infer_message(["a"]))
            await asyncio.wait_for(inference.asked.wait(), patience.SECONDS)
            call.cancel()
            await asyncio.wait_for(inference.dropped.wait(), patience.SECONDS)

    asyncio.run(ask())


def test_what_still_runs_when_the_grace_is_over_is_cut_off() -> None:
    async def ask() -> None:
        inference = Patient()
        async with grpc_server(inference) as (server, address), aio.insecure_channel(address) as channel:
            call = GRPCInferenceServiceStub(channel).ModelInfer(infer_message(["a"]))
            await asyncio.wait_for(inference.asked.wait(), patience.SECONDS)
            await asyncio.wait_for(server.stop(0.1), patience.SECONDS)
            assert inference.dropped.is_set()
            await refusal_of(call)

    asyncio.run(ask())


def test_two_servers_cannot_share_a_port() -> None:
    async def ask() -> None:
        async with grpc_server(Patient()) as (_, address):
            second = GrpcServer(int(address.rpartition(":")[2]), interceptors(), message_bytes=2**20)
            models = ModelRepository()
            with pytest.raises(RuntimeError, match="Failed to bind"):
                await second.start(*services(models))

    asyncio.run(ask())


def test_with_a_certificate_the_port_is_encrypted(tmp_path: Path) -> None:
    certificate = Certificate(tmp_path / "chain.pem", tmp_path / "key.pem")
    words = ["openssl", "req", "-x509", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    words += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    words += ["-addext", "subjectAltName=DNS:localhost"]
    words += ["-keyout", str(certificate.key), "-out", str(certificate.chain)]
    subprocess.run(words, check=True, capture_output=True)
    trust = grpc.ssl_channel_credentials(certificate.chain.read_bytes())

    async def ask() -> None:
        async with grpc_server(Patient(), certificate) as (_, address):
            async with aio.secure_channel(address, trust) as channel:
                assert (await GRPCInferenceServiceStub(channel).ServerLive(messages.ServerLiveRequest())).live
            async with aio.insecure_channel(address) as channel:
                plain = GRPCInferenceServiceStub(channel).ServerLive(messages.ServerLiveRequest())
                assert (await refusal_of(plain)).code() is StatusCode.UNAVAILABLE

    asyncio.run(ask())
