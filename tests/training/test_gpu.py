"""What can be tried of a training on a GPU where there is none.

No test here has run on a GPU, nor has `device=cuda` ever. Tensors on torch's "meta" device have shapes and no values:
they show operations between two devices, as a GPU would, and whatever waits for a value.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, BertConfig, BertForSequenceClassification

from miniml.errors import InputError
from miniml.model.history import read_history
from miniml.model.manifest import read
from miniml.processor import explained, gpu_has_bf16, has_idle_gpu, why_no_gpu
from miniml.settings.training import TrainingSettings
from miniml.tasks.multi_label.training import BinaryCrossEntropy
from miniml.tasks.single_label.training import CrossEntropy
from miniml.training import memory
from miniml.training.batches import TOKENS_IN_PASS_ON_A_GPU
from miniml.training.compilation import compile_layers
from miniml.training.device import choose_device, device_named, same_or_fastest
from miniml.training.fine_tune import fine_tune
from miniml.training.gpu import MIB, PEAK_BF16_TFLOPS, GpuUse, flops_per_text, peak_flops
from miniml.training.mean_loss import MeanLoss
from miniml.training.objective import Objective, SquaredDifference
from miniml.training.processes import ALONE
from miniml.training.report import write_report
from miniml.training.trainer import loading
from tests.conftest import TRAINING
from tests.page import Page

CUDA, META = torch.device("cuda"), torch.device("meta")
GIB = 2**30


@pytest.fixture(scope="module")
def bert_base() -> BertForSequenceClassification:
    """Its shapes, without any memory for them."""
    with META:
        return BertForSequenceClassification(BertConfig())


@pytest.mark.parametrize(
    ("gpu", "capability", "has"),
    [("V100", (7, 0), False), ("T4", (7, 5), False), ("A100", (8, 0), True), ("H100", (9, 0), True)],
)
def test_bf16_is_for_gpus_that_multiply_it_and_not_for_those_that_emulate_it(
    gpu: str, capability: tuple[int, int], has: bool
) -> None:
    assert gpu_has_bf16(capability) is has


@pytest.mark.parametrize(
    ("device", "available", "local_rank", "named"),
    [
        ("auto", ["cpu"], None, "cpu"),
        ("auto", ["cpu", "mps"], None, "mps"),
        ("auto", ["cpu", "cuda:0", "cuda:1"], None, "cuda:0"),
        ("auto", ["cpu", "cuda:0", "cuda:1"], 1, "cuda:1"),
        ("cuda", ["cpu", "cuda:0", "cuda:1"], None, "cuda:0"),
        ("cuda", ["cpu", "cuda:0", "cuda:1"], 1, "cuda:1"),
        ("cuda:0", ["cpu", "cuda:0", "cuda:1"], 1, "cuda:1"),
        ("cuda:1", ["cpu", "cuda:0", "cuda:1"], None, "cuda:1"),
        ("cpu", ["cpu", "cuda:0"], 1, "cpu"),
    ],
)
def test_a_training_takes_the_fastest_gpu_and_processes_of_one_machine_each_their_own(
    device: str, available: list[str], local_rank: int | None, named: str
) -> None:
    assert device_named(device, available, local_rank) == named


@pytest.mark.parametrize(
    ("built_for", "visible", "warned", "said"),
    [
        (None, None, [], r"^torch .* is built without CUDA$"),
        ("13.0", "", [], "CUDA_VISIBLE_DEVICES is '', which hides every GPU"),
        ("13.0", "-1", [], "CUDA_VISIBLE_DEVICES is '-1'"),
        (
            "13.0",
            None,
            [
                "CUDA initialization: The NVIDIA driver on your system is too old (found version 11040). Please update "
                "your GPU driver. (Triggered internally at /pytorch/c10/cuda/CUDAFunctions.cpp:119.)"
            ],
            r"^The NVIDIA driver on your system is too old \(found version 11040\)\. Please update your GPU driver$",
        ),
        ("13.0", "0", [], r"^CUDA 13\.0 finds no GPU that it can use$"),
    ],
)
def test_why_torch_can_use_no_gpu_is_said(
    built_for: str | None, visible: str | None, warned: list[str], said: str
) -> None:
    assert re.search(said, explained(built_for, visible, warned))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_training_that_is_to_run_on_a_gpu_is_told_why_it_cannot() -> None:
    with pytest.raises(InputError, match=rf"torch sees: cpu.* \({re.escape(why_no_gpu())}\)"):
        choose_device("cuda")
    with pytest.raises(InputError, match=r"device 'mps' .*; torch sees: cpu\. Set device"):
        choose_device("mps")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_torch_cannot_use_is_noticed_by_its_driver(tmp_path: Path) -> None:
    control = tmp_path / "nvidiactl"
    assert not has_idle_gpu(control)
    control.touch()
    assert has_idle_gpu(control)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_what_was_trained_on_a_gpu_is_computed_on_the_processor_where_there_is_none() -> None:
    assert same_or_fastest("cuda") == str(choose_device("auto"))
    assert same_or_fastest("cpu") == "cpu"


def test_batches_reach_a_gpu_from_pinned_memory_while_it_computes() -> None:
    assert loading(CUDA) == {
        "use_cpu": False,
        "dataloader_pin_memory": True,
        "accelerator_config": {"non_blocking": True},
    }
    assert loading(torch.device("cpu"))["use_cpu"]


def test_passes_are_made_as_small_as_a_gpus_memory_wants_them(
    bert_base: BertForSequenceClassification,
) -> None:
    settings = TrainingSettings(batch_size=256)

    def budget(free: int, length: int = 512) -> int:
        return memory.require_memory(bert_base, length, CUDA, True, settings, free)

    assert budget(80 * GIB) == TOKENS_IN_PASS_ON_A_GPU
    assert budget(16 * GIB) == TOKENS_IN_PASS_ON_A_GPU // 2
    assert 512 <= budget(3 * GIB) <= 2048
    with pytest.raises(InputError, match=r"batch_size 256 at 512 tokens needs about .*, 1\.8 are free: "):
        budget(2 * GIB)
    with pytest.raises(InputError, match=r"free: lower max_length \(\d+ fits\)"):
        budget(int(2.2 * GIB), length=512 * 8)


@pytest.mark.parametrize(
    ("objective", "labels"),
    [
        (CrossEntropy(torch.tensor([1.0, 2.0]), 0.1), torch.zeros(4, dtype=torch.long)),
        (BinaryCrossEntropy(torch.tensor([1.0, 2.0]), 0.1), torch.zeros(4, 2)),
        (SquaredDifference(), torch.zeros(4, 1)),
    ],
)
def test_a_loss_is_computed_where_the_logits_are(objective: Objective, labels: torch.Tensor) -> None:
    logits = torch.zeros(labels.shape if labels.ndim == 2 else (4, 2), device=META, requires_grad=True)
    loss = objective.total(logits, labels.to(META)) / torch.tensor(4, device=META)
    loss.backward()  # type: ignore[no-untyped-call]
    total = MeanLoss(META, ALONE)
    total.add(loss.detach())
    assert loss.device == META
    assert logits.grad is not None


def test_the_operations_of_a_text_are_those_of_the_literature(
    bert_base: BertForSequenceClassification,
) -> None:
    """BERT-base has 85 million weights in its layers, each of which takes 6 operations for a token."""
    layers, width = 12, 768
    tokens = 512
    weights = layers * 12 * width**2
    attention = 12 * layers * width * tokens**2
    found = flops_per_text(bert_base, np.array([tokens]))
    assert found == pytest.approx(6 * weights * tokens + attention)
    assert flops_per_text(bert_base, np.array([256, 512])) < found


def test_weights_that_do_not_learn_take_fewer_operations() -> None:
    with META:
        model = BertForSequenceClassification(BertConfig(num_hidden_layers=4))
    lengths = np.array([128])
    everything = flops_per_text(model, lengths)
    model.bert.embeddings.requires_grad_(False)
    model.bert.encoder.layer[:2].requires_grad_(False)
    half = flops_per_text(model, lengths)
    model.bert.requires_grad_(False)
    assert half == pytest.approx(everything * 2 / 3)
    assert flops_per_text(model, lengths) == pytest.approx(everything / 3)


@pytest.mark.parametrize(
    ("name", "rate"),
    [
        ("NVIDIA H100 80GB HBM3", 989.4),
        ("NVIDIA H100 PCIe", 756.5),
        ("NVIDIA H200", 989.4),
        ("NVIDIA GH200 480GB", 989.4),
        ("NVIDIA A100-SXM4-80GB", 312.0),
        ("NVIDIA A10G", 70.0),
        ("NVIDIA A10", 125.0),
        ("NVIDIA L4", 121.0),
        ("NVIDIA L40S", 362.1),
        ("NVIDIA GeForce RTX 4090", 165.2),
    ],
)
def test_a_gpus_peak_rate_is_known_by_its_name(name: str, rate: float) -> None:
    assert peak_flops(name) == rate * 1e12


@pytest.mark.parametrize(
    "name",
    [
        "Tesla T4",
        "NVIDIA H100 80GB HBM3 MIG 1g.10gb",
        "NVIDIA H200 NVL",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA GeForce RTX 4090 D",
        "NVIDIA A1000",
        "",
    ],
)
def test_of_another_gpu_or_of_a_part_of_one_no_share_is_told(name: str) -> None:
    assert peak_flops(name) is None
    assert all(rate > 0 for rate in PEAK_BF16_TFLOPS.values())


def test_without_a_gpu_there_are_no_figures_of_one(model_dir: Path, bert_base: Any) -> None:
    assert GpuUse.begin(bert_base, torch.device("cpu"), np.array([8])).metrics(10.0) == {}
    assert not read(model_dir).metrics.keys() & {"peak_gpu_mib", "gpu_utilization"}


# torch looks at such a tensor itself, and hides the warning from being printed, but not from being an error.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_compiled_layers_train_as_others_do_and_leave_no_trace_in_what_is_saved(
    encoder: Path, tmp_path: Path
) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(encoder).eval()
    batches = [torch.randint(5, 20, shape) for shape in ((4, 8), (3, 12))]

    def gradients() -> list[torch.Tensor]:
        model.zero_grad()
        for batch in batches:
            model(input_ids=batch, attention_mask=torch.ones_like(batch)).logits.square().sum().backward()
        return [weights.grad.clone() for weights in model.parameters() if weights.grad is not None]

    expected = gradients()
    # This backend makes no code, for which a compiler would take half a minute.
    compile_layers(model, backend="eager")
    for found, wanted in zip(gradients(), expected, strict=True):
        torch.testing.assert_close(found, wanted)
    names = set(model.state_dict())
    model.save_pretrained(tmp_path)
    assert set(AutoModelForSequenceClassification.from_pretrained(tmp_path).state_dict()) == names


def test_without_a_compiler_that_is_said_before_anything_is_fetched(
    dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    settings = TrainingSettings(model_id="nobody/nothing", **TRAINING, compile_layers=True)
    with pytest.raises(InputError, match=r"compile_layers is true, but this machine has neither g\+\+ nor"):
        fine_tune(dataset_dir, tmp_path / "model", settings)


def test_the_report_shows_what_a_gpu_was_used_for(model_dir: Path, tmp_path: Path) -> None:
    model = read(model_dir)
    on_gpu = model.metrics | {"peak_gpu_mib": 3 * GIB / MIB, "gpu_utilization": 0.42}
    write_report(replace(model, metrics=on_gpu), read_history(model_dir), tmp_path / "report.html")
    words = Page(tmp_path / "report.html").words
    assert "GPU memory at its peak 3.0 GiB" in words
    assert "of the GPU's peak rate 42 %" in words
