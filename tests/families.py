"""A tiny model of any family that transformers ships a text classifier of."""

from __future__ import annotations

import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    CONFIG_MAPPING,
    AutoModel,
    AutoModelForSequenceClassification,
    PreTrainedTokenizerFast,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
)

from miniml.model import manifest
from tests.tiny import BAD, GOOD, NEUTRAL

# By size, the names that configs have for it: two layers of 16 numbers.
_NAMES: dict[int, str] = {
    16: "hidden_size d_model n_embd dim emb_dim embedding_size moe_intermediate_size "
    "shared_expert_intermediate_size",
    32: "intermediate_size d_ff d_inner n_inner ffn_dim hidden_dim encoder_ffn_dim decoder_ffn_dim",
    2: "num_hidden_layers n_layer n_layers num_layers num_decoder_layers encoder_layers decoder_layers "
    "num_attention_heads num_key_value_heads n_head n_heads num_heads encoder_attention_heads "
    "decoder_attention_heads num_experts_per_tok",
    8: "head_dim linear_key_head_dim linear_value_head_dim d_head d_kv q_lora_rank kv_lora_rank attention_window",
    4: "qk_rope_head_dim qk_nope_head_dim v_head_dim block_size num_experts num_local_experts n_routed_experts",
    64: "max_position_embeddings n_positions",
    1: "num_random_blocks",
}
SIZES = {name: size for size, names in _NAMES.items() for name in names.split()}
# Beside the common ones.
OWN: dict[str, dict[str, Any]] = {
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "gptj": {"rotary_dim": 4},
    "luke": {"entity_vocab_size": 8, "entity_emb_size": 16},
    "roc_bert": {"pronunciation_vocab_size": 8, "shape_vocab_size": 8},
    "perceiver": {"d_latents": 16, "num_latents": 4, "num_self_attends_per_block": 1, "num_blocks": 1},
    "rembert": {"input_embedding_size": 16, "output_embedding_size": 16},
    "canine": {"num_hash_buckets": 64},
    "funnel": {"block_sizes": [1, 1], "architectures": ["FunnelBaseModel"]},
    "layoutlmv3": {"coordinate_size": 2, "shape_size": 4, "visual_embed": False},
    "reformer": {"axial_pos_embds_dim": [8, 8], "axial_pos_shape": [8, 8], "attn_layers": ["local", "lsh"]},
    "lilt": {"hidden_size": 24},
    "deepseek_v3": {"n_group": 2, "topk_group": 1},
    "axk1": {"n_group": 2, "topk_group": 1},
}
# Their configs are not to be had that small, or they need a library that is not for texts.
LEFT_OUT = {"cohere_compass_text", "layoutlmv2", "zamba", "zamba2"}
# Of the decoders, which are some sixty and much alike.
DECODERS = {"bloom", "gpt2", "gpt_neo", "jamba", "llama", "mixtral", "openai-gpt", "opt", "qwen3", "xlnet"}
# Beside these the configs have a part of another kind, of a picture, say.
OF_TEXT_IN_PARTS = {"esm", "mpt"}
SPECIAL = ("<pad>", "<unk>", "<s>", "</s>")
WORDS = (*SPECIAL, *NEUTRAL, *GOOD, *BAD, *string.digits)


def of_text() -> list[str]:
    """The families of encoders whose classifiers read text alone, and some of decoders."""
    every = set(MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES)
    alone = {kind for kind in every if not CONFIG_MAPPING[kind].sub_configs} | OF_TEXT_IN_PARTS
    decoders = set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES) - set(MODEL_FOR_MASKED_LM_MAPPING_NAMES)
    return sorted((alone - decoders - LEFT_OUT) | DECODERS)


def config_of(kind: str, layers: int = 2, **others: Any) -> Any:
    """A tiny config of a family, with the token ids of `write_tokenizer`."""
    taken = {name for each in CONFIG_MAPPING[kind].__mro__ for name in getattr(each, "__annotations__", {})}
    taken |= set(CONFIG_MAPPING[kind].attribute_map)
    sizes = {name: layers if "layer" in name else size for name, size in SIZES.items() if name in taken}
    ids = {
        "vocab_size": 64,
        "pad_token_id": 0,
        "bos_token_id": 2,
        "eos_token_id": 3,
        "decoder_start_token_id": 3,
    }
    return CONFIG_MAPPING[kind](**{**sizes, **ids, **OWN.get(kind, {}), **others})


def write_tokenizer(
    folder: Path, *, words: Sequence[str] = WORDS, around: str = "<s> $A </s>", **special: Any
) -> Any:
    """A tokenizer of whole words, with the tokens `around` a text, and as many characters of the rest as it knows.

    `special` are tokens by their role, such as `pad_token`; None leaves one out.
    """
    ids = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=words[1]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.WordPiece()
    if around:
        named = [(token, ids[token]) for token in around.split() if token in ids]
        tokenizer.post_processor = processors.TemplateProcessing(single=around, special_tokens=named)
    roles = dict(zip(("pad_token", "unk_token", "bos_token", "eos_token"), SPECIAL, strict=True)) | special
    wrapped: Any = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, **{role: token for role, token in roles.items() if token}
    )
    wrapped.save_pretrained(folder)
    return wrapped


def write_family(folder: Path, kind: str, **config: Any) -> Path:
    """A model of a family as a hub has it, with random weights and no head."""
    torch.manual_seed(0)
    AutoModel.from_config(config_of(kind, **config)).save_pretrained(folder)  # type: ignore[no-untyped-call]
    return folder


def write_classifier(folder: Path, kind: str, layers: int = 2) -> Path:
    """A signed model folder of a family, as the train stage writes it, of random weights."""
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(config_of(kind, layers))  # type: ignore[no-untyped-call]
    model.save_pretrained(folder)
    write_tokenizer(folder, model_max_length=60)
    manifest.sign(folder, data={}, arguments={}, versions={}, metrics={})
    return folder
