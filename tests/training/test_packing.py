"""A model that packs its texts gives the same answers and gradients as transformers' own, and computes less."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from miniml.training.compilation import compile_layers
from miniml.training.packing import ENCODERS, NAME, pack_texts

CPU = torch.device("cpu")
LENGTHS = (9, 3, 1, 7)


def encoder(kind: str) -> Any:
    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    if kind == "distilbert":
        sizes = {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32}
    config = AutoConfig.for_model(kind, vocab_size=50, pad_token_id=0, num_labels=3, **sizes)
    torch.manual_seed(0)
    model: Any = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]
    return model.eval()


def batch() -> dict[str, torch.Tensor]:
    mask = (torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]).long()
    ids = torch.randint(5, 50, mask.shape, generator=torch.Generator().manual_seed(1))
    return {"input_ids": ids * mask, "attention_mask": mask}


def shortened(inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same texts, cut to five tokens."""
    return {name: tensor[:, :5] for name, tensor in inputs.items()}


def answers_and_gradients(model: Any, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    model.zero_grad()
    logits = model(**inputs).logits
    loss: Any = torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, 0]))
    loss.backward()
    gradients = [weights.grad.flatten() for weights in model.parameters() if weights.grad is not None]
    return logits.detach(), torch.cat(gradients)


@pytest.mark.parametrize("kind", ENCODERS)
def test_answers_and_gradients_are_those_of_torchs_own(kind: str) -> None:
    model, inputs = encoder(kind), batch()
    expected = answers_and_gradients(model, inputs)
    pack_texts(model, "right", CPU, dropout=0.0)
    assert model.config._attn_implementation == NAME
    for found, wanted in zip(answers_and_gradients(model, inputs), expected, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ENCODERS)
def test_in_float64_nothing_is_left_between_them(kind: str) -> None:
    model, inputs = encoder(kind).double(), batch()
    expected = answers_and_gradients(model, inputs)
    pack_texts(model, "right", CPU, dropout=0.0)
    for found, wanted in zip(answers_and_gradients(model, inputs), expected, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-13, rtol=1e-9)


def test_in_bf16_it_rounds_no_more_than_torchs_own() -> None:
    model, inputs = encoder("bert"), batch()
    exact = answers_and_gradients(model, inputs)
    with torch.autocast("cpu", torch.bfloat16):
        torchs = answers_and_gradients(model, inputs)
        pack_texts(model, "right", CPU, dropout=0.0)
        ours = answers_and_gradients(model, inputs)
    for found, other, wanted in zip(ours, torchs, exact, strict=True):
        assert (found - wanted).norm() <= 1.5 * (other - wanted).norm()


def test_no_padding_is_computed_and_the_last_layer_computes_first_tokens_alone() -> None:
    model = encoder("bert")
    pack_texts(model, "right", CPU, dropout=0.0)
    computed: list[int] = []
    for layer in model.bert.encoder.layer:
        layer.output.register_forward_hook(lambda _, __, output: computed.append(output.shape[1]))
    model(**batch())
    assert computed == [sum(LENGTHS), len(LENGTHS)]


def test_a_copy_computes_with_weights_of_its_own() -> None:
    model, inputs = encoder("bert"), batch()
    pack_texts(model, "right", CPU, dropout=0.0)
    answers = model(**inputs).logits
    copied = copy.deepcopy(model)
    torch.nn.init.zeros_(model.bert.encoder.layer[-1].output.dense.weight)
    assert torch.equal(copied(**inputs).logits, answers)
    assert not torch.equal(model(**inputs).logits, answers)


# torch looks at such a tensor itself, and hides the warning from being printed, but not from being an error.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_compiled_layers_are_not_compiled_again_for_texts_of_other_lengths() -> None:
    # What another test has compiled would be compiled again for this model.
    torch.compiler.reset()
    model, inputs = encoder("bert"), batch()
    expected = [answers_and_gradients(model, rows) for rows in (inputs, shortened(inputs))]
    pack_texts(model, "right", CPU, dropout=0.0)
    compile_layers(model, backend="eager")
    with torch._dynamo.config.patch(error_on_recompile=True):
        found = [answers_and_gradients(model, rows) for rows in (inputs, shortened(inputs))]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("kind", "padding_side", "device", "dropout"),
    [
        # It attends to a window in some layers.
        ("modernbert", "right", CPU, 0.0),
        ("bert", "left", CPU, 0.0),
        ("bert", "right", torch.device("cuda"), 0.0),
        ("bert", "right", CPU, 0.1),
    ],
)
def test_where_it_would_differ_or_be_slower_the_model_computes_as_it_did(
    kind: str, padding_side: str, device: torch.device, dropout: float
) -> None:
    model, inputs = encoder(kind), batch()
    before, answers = model.config._attn_implementation, model(**inputs).logits
    pack_texts(model, padding_side, device, dropout)
    assert model.config._attn_implementation == before
    assert torch.equal(model(**inputs).logits, answers)


def test_a_decoder_computes_as_it_did() -> None:
    model = encoder("bert")
    model.config.is_decoder = True
    pack_texts(model, "right", CPU, dropout=0.0)
    assert model.config._attn_implementation == "sdpa"


def test_a_saved_model_knows_nothing_of_it(tmp_path: Any) -> None:
    model = encoder("bert")
    pack_texts(model, "right", CPU, dropout=0.0)
    model.save_pretrained(tmp_path)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert again.config._attn_implementation == "sdpa"
