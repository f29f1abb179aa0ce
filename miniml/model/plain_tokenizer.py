"""Reads the tokenizer of a model folder without transformers, which takes seconds to import.

A fast tokenizer of transformers is one of the library tokenizers, in `tokenizer.json`, with a few settings around it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

TOKENIZER_NAME = "tokenizer.json"


@dataclass(frozen=True)
class TokenizerSettings:
    """What transformers knows of a tokenizer besides `tokenizer.json`, by transformers' names."""

    model_max_length: int
    truncation_side: str
    padding_side: str
    pad_token_id: int | None
    eos_token_id: int | None
    bos_token_id: int | None
    unk_token_id: int | None
    all_special_ids: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer: Any) -> TokenizerSettings:
        """Returns the settings of a tokenizer of transformers."""
        return cls(
            model_max_length=int(tokenizer.model_max_length),
            truncation_side=tokenizer.truncation_side,
            padding_side=tokenizer.padding_side,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=tokenizer.bos_token_id,
            unk_token_id=tokenizer.unk_token_id,
            all_special_ids=tuple(tokenizer.all_special_ids),
        )


class PlainTokenizer:
    """A tokenizer that truncates as in training, with those attributes of transformers' that a classifier uses."""

    is_fast = True

    def __init__(self, folder: Path, settings: TokenizerSettings) -> None:
        """
        Args:
            folder: The model folder.
            settings: The settings of transformers' tokenizer.
        """
        self.backend_tokenizer: Any = Tokenizer.from_file(str(folder / TOKENIZER_NAME))
        self.backend_tokenizer.no_padding()
        self.backend_tokenizer.enable_truncation(
            settings.model_max_length, direction=settings.truncation_side
        )
        self.model_max_length = settings.model_max_length
        self.truncation_side = settings.truncation_side
        self.padding_side = settings.padding_side
        self.pad_token_id = settings.pad_token_id
        self.eos_token_id = settings.eos_token_id
        self.bos_token_id = settings.bos_token_id
        self.unk_token_id = settings.unk_token_id
        self.all_special_ids = list(settings.all_special_ids)

    def __len__(self) -> int:
        return int(self.backend_tokenizer.get_vocab_size(with_added_tokens=True))

    def is_equal_to(self, tokenizer: Any) -> bool:
        """Tells whether a tokenizer of transformers splits every text as this one does.

        Args:
            tokenizer: The tokenizer of transformers, which has truncated before.
        """
        if not tokenizer.is_fast:
            return False
        own, other = self.backend_tokenizer, tokenizer.backend_tokenizer
        # The text of a tokenizer has everything of it but this.
        same_specials = own.encode_special_tokens == other.encode_special_tokens
        return bool(same_specials and len(self) == len(tokenizer) and own.to_str() == other.to_str())
