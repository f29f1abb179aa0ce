"""What a pretrained model brings is read, matched by name, or refused in a few lines: never made up, never run."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from miniml.errors import InputError
from miniml.model.heads import Head
from miniml.settings.training import TrainingSettings
from miniml.tasks.multi_label.head import MultiLabelHead
from miniml.tasks.regression.head import RegressionHead
from miniml.tasks.single_label.head import SingleLabelHead
from miniml.training.pretrained import Pretrained, find_pretrained
from tests import families, tiny

NAMED = SingleLabelHead(("bad", "good"))


def load(folder: Path, head: Head = NAMED, **settings: Any) -> Pretrained:
    given = TrainingSettings(**{"model_id": str(folder), "max_length": 32, **settings})
    found, _ = find_pretrained(given.model_id, given.from_scratch)
    return Pretrained.load(found, head, given)


@pytest.fixture
def folder(encoder: Path, tmp_path: Path) -> Path:
    """A copy of an encoder, to be spoilt."""
    return shutil.copytree(encoder, tmp_path / "encoder")


def set_in(file: Path, **values: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def _lfs(folder: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 93432\n"
    (folder / "model.safetensors").write_text(pointer)


def _truncated(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:5000])


def _without_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def _with_a_layer_more(folder: Path) -> None:
    set_in(folder / "config.json", num_hidden_layers=3)


def _of_another_size(folder: Path) -> None:
    set_in(folder / "config.json", intermediate_size=128)


def _with_its_own_code(folder: Path) -> None:
    set_in(folder / "config.json", model_type="of-its-own", auto_map={"AutoConfig": "own.Config"})


def _with_a_tokenizer_of_its_own_code(folder: Path) -> None:
    _with_its_own_code(folder)
    own = {"auto_map": {"AutoTokenizer": ["own.Tokenizer", None]}, "tokenizer_class": "OwnTokenizer"}
    set_in(folder / "config.json", model_type="bert", tokenizer_class=None)
    set_in(folder / "tokenizer_config.json", **own)


def _with_a_kernel(folder: Path) -> None:
    set_in(folder / "config.json", attn_implementation="somebody/kernel")


def _with_kernels_by_part(folder: Path) -> None:
    set_in(folder / "config.json", text_config={"_attn_implementation": {"": "somebody/kernel"}})


def _quantized(folder: Path) -> None:
    set_in(folder / "config.json", quantization_config={"quant_method": "fp8"})


def _an_adapter(folder: Path) -> None:
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "somebody/model"}')


def _lacking_a_shard(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    shards = {"weight_map": {"embeddings.weight": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(shards))


def _of_no_text_classifier(folder: Path) -> None:
    set_in(folder / "config.json", model_type="vit")


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (_lfs, "model.safetensors is a Git LFS pointer, .*git lfs pull"),
        (_truncated, "model.safetensors cannot be read .*Copy it again"),
        (_without_tokenizer, "tokenizer.json or vocab.txt is missing, .*save_pretrained"),
        (
            _with_a_layer_more,
            r"nothing that fits bert\.encoder\.layer\.2\.[\w.]+ and 15 others .*config\.json",
        ),
        (_of_another_size, r"nothing that fits bert\.encoder\.layer\.0\.intermediate"),
        (_with_its_own_code, "brings code of its own for models of kind 'of-its-own'"),
        (_with_a_kernel, "sets attn_implementation to 'somebody/kernel'"),
        (_with_kernels_by_part, "sets _attn_implementation to 'somebody/kernel'"),
        (_quantized, r"its weights are quantized \(fp8\)"),
        (_an_adapter, "an adapter of 'somebody/model' .*merge_and_unload"),
        (_lacking_a_shard, "model-00001-of-00002.safetensors is missing"),
        (_of_no_text_classifier, "does not load as a text classifier"),
    ],
)
def test_a_folder_that_would_be_read_otherwise_than_it_seems_is_refused_in_a_sentence(
    spoil: Callable[[Path], None], expected: str, folder: Path
) -> None:
    spoil(folder)
    with pytest.raises(InputError, match=expected) as refused:
        load(folder)
    message = str(refused.value)
    assert str(folder) in message
    assert len(message) < 800
    assert "\n" not in message
    assert "trust_remote_code" not in message


@pytest.mark.parametrize("spoil", [_with_its_own_code, _with_a_tokenizer_of_its_own_code])
def test_a_folders_own_code_is_neither_run_nor_asked_about(
    spoil: Callable[[Path], None], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "own.py").write_text(f"open({str(tmp_path / 'witness')!r}, 'w')\n")
    spoil(folder)
    monkeypatch.setattr("sys.stdin", io.StringIO("y\ny\ny\n"))
    with suppress(InputError):  # What of the folder is usable without, is used.
        load(folder)
    assert sys.stdin.read() == "y\ny\ny\n"
    assert not (tmp_path / "witness").exists()


def test_files_that_nobody_reads_are_no_reason_to_refuse_a_model(folder: Path) -> None:
    (folder / "train.json").write_text('{"text": "one"}\n{"text": "a row a line"}\n')
    shards = json.dumps({"weight_map": {"embeddings.weight": "pytorch_model-00001-of-00002.bin"}})
    (folder / "pytorch_model.bin.index.json").write_text(shards)  # as hubs have beside safetensors
    assert load(folder).classifier()
    (folder / "model.safetensors").unlink()
    assert load(folder, from_scratch=True).classifier()


def test_a_pooler_that_the_pretraining_had_no_use_for_may_be_missing(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if not name.startswith("pooler")}
    assert len(kept) < len(weights)
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    _, new, drawn = load(folder).classifier()
    assert {"bert.pooler.dense.weight", "classifier.weight"} <= new & drawn


def test_pickled_weights_in_parts_are_read_and_what_is_in_them_is_not_run(
    folder: Path, tmp_path: Path
) -> None:
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    parts = {"pytorch_model-00001-of-00002.bin": names[:10], "pytorch_model-00002-of-00002.bin": names[10:]}
    for file, of_part in parts.items():
        torch.save({name: weights[name] for name in of_part}, folder / file)
    index = {"metadata": {}, "weight_map": {name: file for file, part in parts.items() for name in part}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    model, *_ = load(folder).classifier()
    assert torch.equal(
        model.bert.encoder.layer[1].output.dense.weight, weights["encoder.layer.1.output.dense.weight"]
    )
    torch.save(Witness(tmp_path / "witness"), folder / "pytorch_model-00002-of-00002.bin")
    with pytest.raises(InputError, match="does not load as a text classifier"):
        load(folder)
    assert not (tmp_path / "witness").exists()


class Witness:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self._path, "w")


def test_a_head_for_the_same_classes_in_another_order_is_matched_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tiny.write_classifier(tmp_path / "model", labels=("bad", "so so", "good"))
    before, _, drawn = load(folder, SingleLabelHead(("bad", "so so", "good"))).classifier()
    assert not drawn
    assert "head" not in capsys.readouterr().out
    after, _, drawn = load(folder, SingleLabelHead(("good", "bad", "so so"))).classifier()
    assert not drawn
    assert torch.equal(after.classifier.weight, before.classifier.weight[[2, 0, 1]])
    assert "the same classes in another order: they are matched by name" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (SingleLabelHead(("ham", "spam")), "for 2 classes (bad, good), the data has 2 classes (ham, spam)"),
        (
            SingleLabelHead(("bad", "good", "so so")),
            "for 2 classes (bad, good), the data has 3 classes (bad, good, so",
        ),
        (MultiLabelHead(("bad", "good")), "for 2 classes (bad, good), the data has 2 labels (bad, good)"),
        (RegressionHead(), "for 2 classes (bad, good), the data has a number"),
    ],
)
def test_a_head_for_something_else_is_drawn_anew_and_that_is_said(
    head: Head, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tiny.write_classifier(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")["classifier.weight"]
    model, new, drawn = load(folder, head).classifier()
    assert drawn == {"classifier.weight", "classifier.bias"} <= new
    assert not torch.equal(model.classifier.weight[:1], weights[:1])
    assert f"the pretrained head is {message}" in capsys.readouterr().out


def test_a_head_for_numbers_goes_on_in_the_unit_of_the_new_labels(tmp_path: Path) -> None:
    first = load(tiny.write_encoder(tmp_path / "encoder"), RegressionHead(5.0, 2.0))
    model, *_ = first.classifier()
    model.save_pretrained(tmp_path / "model")
    first.tokenizer.save_pretrained(tmp_path / "model")
    again, *_ = load(tmp_path / "model", RegressionHead(100.0, 30.0)).classifier()
    ids = {"input_ids": torch.tensor([[2, 8, 9, 3]])}
    with torch.no_grad():
        one, other = model.eval()(**ids).logits * 2 + 5, again.eval()(**ids).logits * 30 + 100
    assert torch.allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("kind", ["roberta", "xlm-roberta", "mpnet", "longformer", "ibert"])
def test_positions_that_begin_behind_the_paddings_are_not_counted(kind: str, tmp_path: Path) -> None:
    families.write_family(tmp_path, kind, pad_token_id=1)
    families.write_tokenizer(tmp_path, pad_token="<unk>")  # Of number 1.
    assert load(tmp_path, max_length=512).tokenizer.model_max_length == 62


def test_a_tokenizer_with_more_tokens_than_the_model_gets_room_for_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    families.write_family(tmp_path, "bert", vocab_size=40)
    families.write_tokenizer(tmp_path).add_tokens([f"new{number}" for number in range(30)])
    families.write_tokenizer(tmp_path, words=[*families.WORDS, *map(str, range(100, 130))])
    model, *_ = load(tmp_path).classifier()
    words = len(families.WORDS) + 30
    assert model.get_input_embeddings().num_embeddings == model.config.vocab_size == words
    assert f"the tokenizer has {words} tokens, the model 40" in capsys.readouterr().out


def test_a_tokenizer_without_special_tokens_gets_one_to_pad_with(tmp_path: Path) -> None:
    families.write_family(tmp_path, "bert")
    special: dict[str, Any] = dict.fromkeys(("pad_token", "eos_token", "bos_token", "unk_token"))
    families.write_tokenizer(tmp_path, around="", **special)
    found = load(tmp_path)
    assert found.tokenizer.pad_token == "[PAD]"
    assert found.tokenizer.pad_token_id not in range(len(families.WORDS))


def test_a_decoders_texts_are_padded_on_the_side_that_changes_no_answer(tmp_path: Path) -> None:
    families.write_family(tmp_path, "gpt2")
    families.write_tokenizer(tmp_path, around="")
    set_in(tmp_path / "tokenizer_config.json", padding_side="left")
    assert load(tmp_path).tokenizer.padding_side == "right"  # GPT-2's positions begin with the row's.
    shutil.rmtree(tmp_path)
    families.write_family(tmp_path, "xlnet")
    families.write_tokenizer(tmp_path, around="$A </s> <s>")
    assert load(tmp_path).tokenizer.padding_side == "left"  # XLNet reads the row's last token.


def test_long_texts_are_read_alike_whatever_came_before(tmp_path: Path) -> None:
    families.write_family(tmp_path, "big_bird", attention_type="block_sparse")
    families.write_tokenizer(tmp_path)
    model, *_ = load(tmp_path).classifier()
    assert model.config.attention_type == "original_full"
