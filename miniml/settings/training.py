"""Settings of a training: how to fine-tune an encoder into a classifier."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from miniml.errors import InputError
from miniml.escaping import shown
from miniml.settings.checks import require_at_least, require_choices, require_seed, require_share
from miniml.settings.choices import LAST, BestBy, validation_metrics
from miniml.settings.field_types import FormField
from miniml.settings.log_targets import targets
from miniml.store.address import S3_SCHEME, is_in_store, s3_address

NO_CHECKPOINTS = "none"


@dataclass(frozen=True)
class TrainingSettings:
    """How to fine-tune an encoder into a classifier."""

    model_id: FormField[str] = "google-bert/bert-base-cased"
    """The pretrained encoder: a hub id, a path, package://<package>/<folder>, s3://<bucket>/<path> or
    s3://<bucket>/<name>@<version>."""
    from_scratch: bool = False
    """Takes only the architecture and the tokenizer of the model, and initializes its weights at random. It needs far
    more rows than fine-tuning."""
    batch_size: FormField[int] = 2
    """The number of texts in a batch."""
    gradient_accumulation: int = 1
    """The number of batches in one optimizer step. 4 batches of 4 texts act like one of 16, in less memory."""
    iterations: FormField[int] = 200
    """The number of optimizer steps; 0 trains for `epochs` instead."""
    epochs: FormField[int] = 1
    """The number of passes over the training rows, where `iterations` is 0."""
    time_limit: FormField[float] = 0.0
    """Minutes that a training may take, including loading and saving, or all trials of a search together; 0 sets no
    limit. The training measures some steps first, and plans as many of the requested steps as fit; its schedule and
    validations follow the plan."""
    stop_at_step: int = 0
    """The step of the schedule after which the training ends; 0 trains to the end. It repeats a training that its time
    limit or a search ended early."""
    device: str = "cpu"
    """The device to train on: cpu, cuda, cuda:1, mps or auto. No training has run on cuda yet."""
    max_length: FormField[int] = 256
    """The most tokens of a text that the model sees. BERT takes 512, but the cost of a step grows with it, and 256 are
    most of a review (275 tokens on average on IMDB)."""
    truncation_side: Literal["left", "right"] = "right"
    """The side on which a longer text is cut: "right" keeps its beginning, "left" its end, where reviews give their
    verdict."""
    learning_rate: FormField[float] = 5e-5
    """The highest learning rate. LoRA needs about ten times the learning rate of a training of all weights."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """How the learning rate falls to 0 after the warm-up: linearly, or as half a cosine wave; "constant" keeps it."""
    warmup_share: float = 0.1
    """The fraction of the steps over which the learning rate rises, as the first gradients of a new head are large and
    noisy."""
    weight_decay: float = 0.0
    """The weight decay of AdamW: each step shrinks the weights by this fraction times the learning rate. It has little
    effect in one or two epochs."""
    max_gradient_norm: float = 1.0
    """The largest norm of the gradient, to which longer gradients are clipped; 0 never clips."""
    class_weights: Literal["none", "balanced"] = "none"
    """How classes are weighted in the loss: "balanced" weights rare classes more, so that all classes count the same.
    It costs accuracy where the test is as unbalanced as the training, and gains recall of the rare classes."""
    label_smoothing: float = 0.0
    """The fraction of each label's probability that is spread over all classes, for labels that may be wrong."""
    dropout: float = 0.0
    """The dropout rate of the encoder. On a CPU dropout takes a third of a step (its random numbers are drawn on one
    thread, and it forces the slow attention kernel), and one or two epochs hardly overfit. BERT's own rate is 0.1."""
    frozen_layers: int = 0
    """The number of lowest encoder layers that are not trained, nor are the embeddings; -1 trains only the head. Their
    features are general, and a step without them is faster: by 1.4 times for 2 of MiniLM's 6 layers."""
    lora_rank: int = 0
    """The rank of LoRA's matrices: above 0, only they and the head are trained, and are merged into the encoder at the
    end; 0 trains the encoder's own weights. A rank of 8 or 16 keeps most of the quality of a full training, with a
    tenth of the optimizer's memory. (Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models",
    https://arxiv.org/abs/2106.09685)"""
    linear_probe: bool = True
    """Starts with a head that was fitted to the features of the pretrained encoder, instead of a random one. A random
    head would distort the encoder's features first. The fit takes at most a tenth of the training's time; a model from
    scratch has no features to fit. (Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform
    Out-of-Distribution", https://arxiv.org/abs/2202.10054)"""
    evaluations: int = 2
    """The number of evaluations on the validation rows during a training. The last one follows the last step."""
    best_by: BestBy = "accuracy"
    """The validation metric by which the best weights are kept, the later of equals; "last" keeps those of the last
    step. With several labels to a text, "accuracy" is subset accuracy; for a regression, the mean absolute error.
    Registered metrics may be named too."""
    early_stopping: int = 0
    """The number of evaluations in a row without an improvement of `best_by` after which the training ends; 0 trains to
    the end."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """The number format of the computation: "auto" is bfloat16 where the hardware supports it, and fp32 elsewhere. Of
    NVIDIA's GPUs, those of compute capability 8.0 and above support it: Ampere and what came after."""
    compile_layers: bool = False
    """Compiles the encoder's layers with torch.compile, which takes up to a few minutes, and a C++ compiler. It may pay
    in a long training on a GPU; that was not measured."""
    log_to: str = ""
    """Experiment trackers to log to, comma-separated: tensorboard:///<folder>, mlflow+http://<host>/<experiment>; ""
    logs to none (see `miniml.settings.log_targets`)."""
    num_nodes: FormField[int] = 1
    """The number of nodes that train together; more than 1 needs a cluster with Kubeflow Trainer (see
    `NodeSettings`)."""
    seed: FormField[int] = 42
    """The random seed: the same seed gives the same model on the same machine. On a GPU, whose kernels add in any
    order, it is the same but for rounding."""
    checkpoints: str = ""
    """Where checkpoints are kept, from which a killed training resumes: a folder or s3://<bucket>/<path>; "none" keeps
    none; "" means the user's cache, or beside the model's own address where that is in an S3 store."""
    checkpoint_interval: int = 300
    """Seconds between two checkpoints; 0 saves one after every step. Checkpoints that take long to save are less
    frequent, so that they take at most a twentieth of the time."""

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
                f"checkpoints {self.checkpoints!r} names a version; checkpoints have none. Write s3://bucket/path."
            )
        if "://" in self.checkpoints and not is_in_store(self.checkpoints):
            raise InputError(
                f"checkpoints {self.checkpoints!r} is neither a folder nor an {S3_SCHEME} address. "
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
                f"stop getting better. Set best_by to one of {', '.join(validation_metrics())}."
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
