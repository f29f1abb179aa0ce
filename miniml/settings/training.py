"""How to fine-tune an encoder."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from miniml.errors import InputError
from miniml.escaping import shown
from miniml.settings.checks import require_at_least, require_choices, require_seed, require_share
from miniml.settings.choices import BEST_BY, LAST, BestBy
from miniml.settings.field_types import FormField
from miniml.settings.log_targets import targets
from miniml.store.address import S3_SCHEME, is_in_store, s3_address

NO_CHECKPOINTS = "none"


@dataclass(frozen=True)
class TrainingSettings:
    """How to fine-tune an encoder into a classifier."""

    model_id: FormField[str] = "google-bert/bert-base-cased"
    """A hub id, a path, package://<package>/<folder>, s3://<bucket>/<path> or s3://<bucket>/<name>@<version>."""
    from_scratch: bool = False
    """Takes the model's architecture and tokenizer only, and draws its weights anew, which takes far more rows."""
    batch_size: FormField[int] = 2
    """Texts whose gradients are computed together."""
    gradient_accumulation: int = 1
    """Batches in one optimizer step. 4 batches of 4 come to what one of 16 does, in less memory."""
    iterations: FormField[int] = 200
    """Optimizer steps; 0 trains for whole `epochs` instead."""
    epochs: FormField[int] = 1
    """Passes over the training rows, where `iterations` is 0."""
    time_limit: FormField[float] = 0.0
    """Minutes that a training may take in all, with loading and saving: it measures some steps first, and plans as many
    of those asked for as fit, schedule and validations with them. 0 sets none. In a search, of all trials together."""
    stop_at_step: int = 0
    """Ends the training after this step of its schedule; 0 trains to the end. So a training is repeated that its time
    limit, or a search, has ended early."""
    device: str = "cpu"
    """cpu, cuda, cuda:1, mps or auto."""
    max_length: FormField[int] = 256
    """Tokens of a text that the model sees. BERT takes 512, but a step's cost grows with it, and
    256 keeps most of what reviews say (they are 275 tokens long on average on IMDB)."""
    truncation_side: Literal["left", "right"] = "right"
    """Where a longer text is cut: "right" keeps its beginning, "left" its end, where reviews give their verdict."""
    learning_rate: FormField[float] = 5e-5
    """The highest learning rate. LoRA's few weights take some ten times that of a training of all weights."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """How the learning rate falls after the warm-up: in a line or half a cosine wave to 0, or not at all."""
    warmup_share: float = 0.1
    """The share of the steps over which the learning rate rises: a new head's first gradients are large and wild."""
    weight_decay: float = 0.0
    """By how much, times the learning rate, a step shrinks the weights. A pass or two leaves it nothing to do."""
    max_gradient_norm: float = 1.0
    """A longer gradient is cut to this length; 0 never cuts."""
    class_weights: Literal["none", "balanced"] = "none"
    """"balanced" lets a text of a rare class count for more, so that all classes count alike. It costs accuracy where
    the test is as unbalanced as the training, and gains recall of the rare ones."""
    label_smoothing: float = 0.0
    """The share of each label that is spread over all classes, for labels that one should not trust altogether."""
    dropout: float = 0.0
    """The encoder's dropout rate. On a CPU dropout takes a third of a step (its random numbers are drawn on one thread,
    and it forces the slow attention kernel), and a pass or two over the data hardly overfits. BERT's own is 0.1."""
    frozen_layers: int = 0
    """How many of the lowest encoder layers stay as they were pretrained, and the embeddings; -1 keeps all, so that
    only a new head learns. What they know is general, and a step that leaves them out is faster: by 1.4 times for 2 of
    MiniLM's 6."""
    lora_rank: int = 0
    """Above 0, the encoder's own weights stay, and beside each of its linear layers learn two matrices of this rank,
    which are added to it in the end (LoRA). 8 or 16 keep most of what a full training reaches, with a tenth of the
    optimizer's memory."""
    linear_probe: bool = True
    """Begins with a head that was fitted to the features of the encoder as it is, not with a random one: the encoder is
    then not pushed about by a head that knows nothing. It takes a tenth of the training's time at most. A model from
    scratch has no features yet."""
    evaluations: int = 2
    """Points of the validation curve; each costs a pass over the validation rows. The last step is always one."""
    best_by: BestBy = "accuracy"
    """The weights are kept of the point that is best by this validation figure, the later of equals; "last" keeps
    those of the last step. "accuracy" is of all labels of a text where it may have several, and of numbers the mean
    absolute error."""
    early_stopping: int = 0
    """Ends the training after so many points in a row that were no better by `best_by`; 0 never does."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """"auto" computes in bfloat16 where the processor multiplies it in hardware, and in fp32 elsewhere."""
    log_to: str = ""
    """Where else to log settings and curves: tensorboard:///<folder>, mlflow+http://<host>/<experiment>, or several
    with commas between (see `miniml.settings.log_targets`)."""
    num_nodes: FormField[int] = 1
    """Machines that train together; with more than 1 it takes a cluster with Kubeflow Trainer (see `NodeSettings`)."""
    seed: FormField[int] = 42
    """The same seed gives the same model on the same machine."""
    checkpoints: str = ""
    """Where a training that was killed finds what to go on from: a folder or s3://<bucket>/<path>; "none" keeps
    nothing; "" is the user's cache, and beside the model's own address where that is in an S3 store."""
    checkpoint_interval: int = 300
    """Seconds of training that may be lost; 0 saves after every step. Where saving takes long it is done less often:
    it takes a twentieth of the time at most."""

    def __post_init__(self) -> None:
        if not self.model_id.strip():
            raise InputError("model_id is empty. Give a hub id, a folder or package://<package>/<folder>.")
        require_at_least("batch_size", self.batch_size, 1)
        require_at_least("gradient_accumulation", self.gradient_accumulation, 1)
        require_at_least("epochs", self.epochs, 1)
        if self.iterations < 0:
            raise InputError(
                f"iterations is {self.iterations}, below 1. Give a number of optimizer steps of 1 or more, "
                f"or exactly 0 to train for whole epochs."
            )
        if not (math.isfinite(self.time_limit) and self.time_limit >= 0):
            raise InputError(f"time_limit is {self.time_limit}; it is a number of minutes, or 0 for none.")
        require_at_least("stop_at_step", self.stop_at_step, 0, "0 trains to the end.")
        require_at_least("frozen_layers", self.frozen_layers, -1, "0 trains them all, -1 only the head.")
        require_at_least("lora_rank", self.lora_rank, 0, "0 trains the encoder's own weights.")
        self._require_one_way_to_learn()
        require_at_least(
            "evaluations", self.evaluations, 1, "The model's validation figures come from the last."
        )
        require_at_least("early_stopping", self.early_stopping, 0, "0 trains to the end.")
        require_at_least("checkpoint_interval", self.checkpoint_interval, 0, "It is a number of seconds.")
        if is_in_store(self.checkpoints) and s3_address("checkpoints", self.checkpoints).version:
            raise InputError(
                f"checkpoints {shown(self.checkpoints)} names a version; checkpoints have none. Write s3://bucket/path."
            )
        if "://" in self.checkpoints and not is_in_store(self.checkpoints):
            raise InputError(
                f"checkpoints {shown(self.checkpoints)} is neither a folder nor an {S3_SCHEME} address. "
                f"Give one of them, or {NO_CHECKPOINTS!r}."
            )
        require_at_least("num_nodes", self.num_nodes, 1)
        require_at_least("max_length", self.max_length, 8, "Two of these are the [CLS] and [SEP] tokens.")
        require_seed(self.seed)
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise InputError(f"learning_rate is {self.learning_rate}; it must be above 0, 5e-5 say.")
        for name in ("dropout", "label_smoothing"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise InputError(f"{name} is {value}; it must be at least 0 and below 1.")
        require_share("warmup_share", self.warmup_share)
        for name in ("weight_decay", "max_gradient_norm"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise InputError(f"{name} is {value}; it must be 0 or more.")
        require_choices(self)
        if self.early_stopping and self.best_by == LAST:
            raise InputError(
                f"early_stopping is {self.early_stopping}, but best_by {LAST!r} names no figure that could "
                f"stop getting better. Set best_by to one of {', '.join(BEST_BY[:-1])}."
            )
        _ = targets(self.log_to)  # Refuses what cannot be read.
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", self.device):
            raise InputError(
                f"device {shown(self.device)} is not known. Use 'cpu', 'cuda', 'cuda:1', 'mps' or 'auto'."
            )

    def _require_one_way_to_learn(self) -> None:
        kept = {"lora_rank": self.lora_rank, "frozen_layers": self.frozen_layers}
        if all(kept.values()):
            raise InputError(
                f"lora_rank is {self.lora_rank} and frozen_layers {self.frozen_layers}, but LoRA keeps all of the "
                f"encoder's own weights anyway. Set one of them to 0."
            )
        for name, value in kept.items():
            if self.from_scratch and value:
                raise InputError(
                    f"{name} is {value}, which keeps weights as they are, but from_scratch draws them at random. "
                    f"Leave one of the two out."
                )
