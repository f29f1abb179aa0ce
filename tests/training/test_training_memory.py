"""Whether a training fits into memory is said before its first step."""

from __future__ import annotations

import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from miniml.errors import InputError
from miniml.settings.training import TrainingSettings
from miniml.training import memory
from miniml.training.fine_tune import fine_tune
from tests.command import ROOT
from tests.conftest import TRAINING

CPU = torch.device("cpu")
GIB, MIB = 2**30, 2**20


@pytest.fixture(scope="module")
def bert_base() -> BertForSequenceClassification:
    """Its shapes, without any memory for them."""
    with torch.device("meta"):
        return BertForSequenceClassification(BertConfig())


def test_what_is_needed_what_is_free_and_what_would_fit_are_told(
    bert_base: BertForSequenceClassification,
) -> None:
    settings = TrainingSettings(batch_size=64)
    with pytest.raises(
        InputError, match=r"batch_size 64 at 512 tokens needs about 4\.8 GiB, 3\.0 are free: lower"
    ) as no:
        memory.require_memory(bert_base, 512, CPU, False, settings, 3 * GIB)
    assert "lower batch_size (2 fits) or max_length (21 fits)" in str(no.value)
    memory.require_memory(bert_base, 512, CPU, False, TrainingSettings(batch_size=2), 3 * GIB)
    memory.require_memory(bert_base, 21, CPU, False, settings, 3 * GIB)
    memory.require_memory(bert_base, 512, CPU, False, settings, 5 * GIB)


def test_where_no_batch_is_small_enough_other_ways_are_told(bert_base: BertForSequenceClassification) -> None:
    for settings, message in (
        (TrainingSettings(), "set lora_rank to 8, take a smaller model_id, or a machine with more memory"),
        (TrainingSettings(lora_rank=8), "free: take a smaller model_id, or a machine with more memory"),
    ):
        with pytest.raises(InputError, match=message):
            memory.require_memory(bert_base, 512, CPU, False, settings, GIB)


def test_what_does_not_learn_takes_less() -> None:
    with torch.device("meta"):
        model = BertForSequenceClassification(BertConfig(num_hidden_layers=4))

    def taken() -> float:
        return memory.demand(model, False, True, 0.0).of(16, 256, 4096)

    everything = taken()
    model.bert.embeddings.requires_grad_(False)
    model.bert.encoder.layer[:2].requires_grad_(False)
    half = taken()
    model.bert.requires_grad_(False)
    head = taken()
    assert head < half < everything
    assert memory.demand(model, False, True, 0.0).state == 0


def test_a_larger_batch_is_computed_in_passes_and_takes_no_more() -> None:
    with torch.device("meta"):
        model = BertForSequenceClassification(BertConfig(num_hidden_layers=1))
    needed = memory.demand(model, False, False, 0.0)
    assert needed.of(16, 256, 4096) == needed.of(1024, 256, 4096) > needed.of(8, 256, 4096)


def test_dropout_keeps_the_scores_of_all_pairs_of_tokens(bert_base: BertForSequenceClassification) -> None:
    without, with_dropout = (memory.demand(bert_base, False, False, rate) for rate in (0.0, 0.1))
    assert with_dropout.of(8, 512, 4096) > 1.8 * without.of(8, 512, 4096)


def test_a_containers_limit_counts_but_not_what_it_can_give_up(tmp_path: Path) -> None:
    machine = memory.free_memory(CPU, tmp_path / "none")
    (tmp_path / "memory.current").write_text("700000000\n")
    (tmp_path / "memory.stat").write_text("anon 500000000\ninactive_file 200000000\n")
    (tmp_path / "memory.max").write_text("900000000\n")
    assert memory.free_memory(CPU, tmp_path) == 400_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.free_memory(CPU, tmp_path) == pytest.approx(machine, rel=0.2)


@pytest.mark.parametrize(("free", "fits"), [(60 * MIB, False), (GIB, True)])
def test_it_is_said_before_the_first_step(
    dataset_dir: Path,
    encoder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    free: int,
    fits: bool,
) -> None:
    """In a container with so much left of its limit; the tiny encoder's training needs some 65 MiB."""
    (tmp_path / "memory.current").write_text(f"{GIB}\n")
    (tmp_path / "memory.stat").write_text("inactive_file 0\n")
    (tmp_path / "memory.max").write_text(f"{GIB + free}\n")
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    settings = TrainingSettings(model_id=str(encoder), **{**TRAINING, "iterations": 1})
    refused = pytest.raises(
        InputError, match=r"batch_size 16 at \d+ tokens needs about 0\.1 GiB, 0\.1 are free"
    )
    with nullcontext() if fits else refused:
        fine_tune(dataset_dir, tmp_path / "model", settings)
    assert ("steps of" in capsys.readouterr().out) is fits
    assert (tmp_path / "model").exists() is fits


SCRIPT = """
import torch
from transformers import BertConfig, BertForSequenceClassification
from miniml.training.memory import demand

def highest():
    # Not ru_maxrss, which begins with that of the process that started this one.
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return int(status["VmHWM"].split()[0]) * 1024

torch.set_num_threads(1)
before = highest()
config = BertConfig(num_hidden_layers=4, hidden_size=512, num_attention_heads=8, intermediate_size=2048)
config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
model = BertForSequenceClassification(config)
optimizer = torch.optim.AdamW(model.parameters(), fused=True)
for _ in range(2):
    model(torch.ones(16, 256, dtype=torch.int64)).logits.sum().backward()
    optimizer.step()
    optimizer.zero_grad()
print((highest() - before) / demand(model, False, False, 0.0).of(16, 256, 4096))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the highest resident size from /proc")
def test_the_estimate_is_near_what_steps_take() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert 0.75 < float(done.stdout) < 1.15
