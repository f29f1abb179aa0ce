"""What the model reads: texts as tokens."""

from __future__ import annotations

from typing import Any

import datasets


def tokenize(splits: dict[str, datasets.Dataset], tokenizer: Any) -> dict[str, datasets.Dataset]:
    """Encodes the splits' texts, cut to the tokenizer's maximal length; the text itself is left out."""

    def encode(rows: dict[str, Any]) -> dict[str, Any]:
        encoded = tokenizer(rows["text"], truncation=True)
        return {"input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"]}

    return {
        split: table.map(encode, batched=True, remove_columns=["text"], keep_in_memory=True)
        for split, table in splits.items()
    }
