"""The settings of each stage: frozen, with real defaults, checked when they are made.

The defaults are the prototype's, and the pipeline's arguments take theirs from here.
Nothing heavy is imported, so that compiling a pipeline needs neither torch nor datasets.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from miniml.errors import InputError
from miniml.installation import PREDICTOR_ACCOUNT, SERVING_NAMESPACE
from miniml.sources import S3_SCHEME, s3_address
from miniml.task import AUTO, Task
from miniml.tracking import targets
from miniml.wording import shown

PRECISIONS = ("auto", "bf16", "fp32")
SCHEDULES = ("linear", "cosine", "constant")
BALANCED = "balanced"
CLASS_WEIGHTS = ("none", BALANCED)
LAST = "last"
BEST_BY = ("accuracy", "macro_f1", "loss", LAST)
TRUNCATION_SIDES = ("left", "right")
ORDERED_LABELS = ("auto", "yes", "no")
CONFLICT_RULES = ("drop", "majority", "refuse")
NEAR_DUPLICATE_RULES = ("drop", "report", "off")
AUTOSCALING_METRICS = ("cpu", "memory")
"""What Kubernetes' own autoscaler measures; the other two of KServe's are Knative's."""
SERVED = "served"
NO_CHAMPION = "none"
NO_CHECKPOINTS = "none"

LEAST_CPU, LEAST_MEMORY = "250m", "1Gi"
"""Of `train_cpu` and `train_memory`: what the steps ask their node for. It is little, so that they find a place on one
of 8 GiB, where Kubeflow Pipelines asks for 3.1, and a served model for 2. Kubernetes takes no limit below it; and so 4
is not taken for 4Gi, nor 512m, which are thousandths of a byte."""

CHOICES: dict[str, tuple[str, ...]] = {
    "task": (AUTO, *Task),
    "conflicting_labels": CONFLICT_RULES,
    "near_duplicates": NEAR_DUPLICATE_RULES,
    "schedule": SCHEDULES,
    "class_weights": CLASS_WEIGHTS,
    "best_by": BEST_BY,
    "precision": PRECISIONS,
    "truncation_side": TRUNCATION_SIDES,
    "ordered_labels": ORDERED_LABELS,
    "autoscaling_metric": AUTOSCALING_METRICS,
}
"""The settings that are one of a few words, and which."""


@dataclass(frozen=True)
class DataSettings:
    """Which rows to take, and how to split them."""

    dataset_id: str = "Yelp/yelp_review_full"
    """A hub id, a path, package://<package>/<file>, s3://<bucket>/<path> or s3://<bucket>/<name>@<version>."""
    text_column: str = "text"
    """The column of the texts."""
    label_column: str = "label"
    """The column of the labels."""
    label_names: str = ""
    """Names for the classes, comma-separated, in the order of the sorted labels; "" keeps the source's."""
    task: str = "auto"
    """What a text gets, as transformers calls it: single_label_classification, multi_label_classification or
    regression. "auto" sees it in the labels: lists of them are several labels, numbers with a fraction a regression;
    whole numbers and words are classes."""
    label_separator: str = ""
    """What stands between the labels of one text where a column has them as one string: "|" reads "toxic|insult" as
    two. An empty string has none. It makes the task multi_label_classification."""
    row_filter: str = ""
    """`column=value` keeps only the rows whose column reads so; "" keeps all."""
    group_column: str = ""
    """Rows that read alike in this column (an author, a product) come into one split, and rows without a value each
    stand alone; "" knows no groups."""
    slice_columns: str = ""
    """Columns to carry along, comma-separated, so that evaluation can tell how the model does on parts of the test."""
    fix_encoding: bool = False
    """Reads "cafÃ©" as "café": UTF-8 that was taken for Latin-1 or Windows-1252 somewhere on its way, and dashes and
    quotation marks of Windows-1252 that were taken for control characters of Latin-1."""
    strip_html: bool = False
    """Puts a space in place of HTML's tags, and a character in place of its entities."""
    strip_control_characters: bool = False
    """Takes control characters out, but for tabs and line ends."""
    drop_empty_texts: bool = False
    """Leaves out rows without a text instead of failing."""
    drop_unlabelled: bool = False
    """Leaves out rows without a label instead of failing."""
    max_characters: int = 100_000
    """A longer text is reported, or left out with `drop_long_texts`; 0 is no limit. The server's is the same."""
    drop_long_texts: bool = False
    """Leaves out texts of more than `max_characters`."""
    min_rows_per_class: int = 3
    """A class with fewer distinct texts is an error, or left out with `drop_rare_classes`."""
    drop_rare_classes: bool = False
    """Leaves out classes of fewer than `min_rows_per_class`."""
    conflicting_labels: str = "drop"
    """The same text under two labels: "drop" leaves all its rows out, "majority" those of the rarer label, and
    "refuse" ends with an error. In every case no label is changed."""
    near_duplicates: str = "drop"
    """"drop" takes out of training and validation what the test nearly repeats, "report" only tells."""
    near_duplicate_threshold: float = 0.7
    """The share of word triples, of those that stand in either text, that stand in both (Jaccard similarity)."""
    train_test_split_ratio: float = 0.2
    """The share of the rows that is held out for the test, where the source has no test split."""
    validation_split_ratio: float = 0.1
    """The share of the training rows that training may look at but not learn from."""
    max_rows: int = 1000
    """The most rows to take in all, training and test together; 0 takes every row."""
    seed: int = 42
    """The same seed gives the same splits, the same search and, on the same machine, the same model."""

    def __post_init__(self) -> None:
        require_fraction("train_test_split_ratio", self.train_test_split_ratio)
        require_fraction("validation_split_ratio", self.validation_split_ratio)
        require_at_least("max_rows", self.max_rows, 0, "Use 0 to take every row.")
        require_seed(self.seed)
        require_at_least("max_characters", self.max_characters, 0, "Use 0 for no limit.")
        require_at_least(
            "min_rows_per_class", self.min_rows_per_class, 3, "Each of the three splits needs one."
        )
        _require_choices(self)
        if self.label_separator and self.task not in (AUTO, Task.MULTI_LABEL):
            raise InputError(
                f"label_separator is {shown(self.label_separator)}, but task is {self.task}, in which a text has no "
                f"several labels. Set task to {Task.MULTI_LABEL}, or leave label_separator out."
            )
        if self.label_names and self.task == Task.REGRESSION:
            raise InputError(
                f"label_names is {shown(self.label_names)}, but task is {self.task}, which has no classes to name. "
                f"Leave label_names out."
            )
        if not 0.3 <= self.near_duplicate_threshold <= 1:
            raise InputError(
                f"near_duplicate_threshold is {self.near_duplicate_threshold}; it must lie between 0.3 and 1 "
                f"(0.7 asks that two texts share 70 % of their word triples)."
            )
        if not self.dataset_id.strip():
            raise InputError(
                "dataset_id is empty. Give a hub id, a file, a folder or package://<package>/<file>."
            )
        if self.row_filter and "=" not in self.row_filter:
            raise InputError(
                f"row_filter {shown(self.row_filter)} is not of the form column=value. Write it as source=imdb, say."
            )
        own = {"text": self.text_column, "label": self.label_column, "group": ""}
        for column in self.carried_columns:
            if column in own or column in own.values():
                raise InputError(
                    f"slice_columns names {shown(column)}, which is taken: a dataset's own columns are text, label and "
                    f"group. Evaluation slices by the label anyway; rename another column of that name in the source."
                )

    @property
    def carried_columns(self) -> list[str]:
        """What `slice_columns` names, each once."""
        return list(dict.fromkeys(name for part in self.slice_columns.split(",") if (name := part.strip())))


@dataclass(frozen=True)
class TrainingSettings:
    """How to fine-tune an encoder into a classifier."""

    model_id: str = "google-bert/bert-base-cased"
    """A hub id, a path, package://<package>/<folder>, s3://<bucket>/<path> or s3://<bucket>/<name>@<version>."""
    from_scratch: bool = False
    """Takes the model's architecture and tokenizer only, and draws its weights anew, which takes far more rows."""
    batch_size: int = 2
    """Texts whose gradients are computed together."""
    gradient_accumulation: int = 1
    """Batches in one optimizer step. 4 batches of 4 come to what one of 16 does, in less memory."""
    iterations: int = 200
    """Optimizer steps; 0 trains for whole `epochs` instead."""
    epochs: int = 1
    """Passes over the training rows, where `iterations` is 0."""
    time_limit: float = 0.0
    """Minutes that a training may take in all, with loading and saving: it measures some steps first, and plans as many
    of those asked for as fit, schedule and validations with them. 0 sets none. In a search, of all trials together."""
    stop_at_step: int = 0
    """Ends the training after this step of its schedule; 0 trains to the end. So a training is repeated that its time
    limit, or a search, has ended early."""
    device: str = "cpu"
    """cpu, cuda, cuda:1, mps or auto."""
    max_length: int = 256
    """Tokens of a text that the model sees. BERT takes 512, but a step's cost grows with it, and
    256 keeps most of what reviews say (they are 275 tokens long on average on IMDB)."""
    truncation_side: str = "right"
    """Where a longer text is cut: "right" keeps its beginning, "left" its end, where reviews give their verdict."""
    learning_rate: float = 5e-5
    """The highest learning rate. LoRA's few weights take some ten times that of a training of all weights."""
    schedule: str = "linear"
    """How the learning rate falls after the warm-up: in a line or half a cosine wave to 0, or not at all."""
    warmup_share: float = 0.1
    """The share of the steps over which the learning rate rises: a new head's first gradients are large and wild."""
    weight_decay: float = 0.0
    """By how much, times the learning rate, a step shrinks the weights. A pass or two leaves it nothing to do."""
    max_gradient_norm: float = 1.0
    """A longer gradient is cut to this length; 0 never cuts."""
    class_weights: str = "none"
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
    best_by: str = "accuracy"
    """The weights are kept of the point that is best by this validation figure, the later of equals; "last" keeps
    those of the last step. "accuracy" is of all labels of a text where it may have several, and of numbers the mean
    absolute error."""
    early_stopping: int = 0
    """Ends the training after so many points in a row that were no better by `best_by`; 0 never does."""
    precision: str = "auto"
    """"auto" computes in bfloat16 where the processor multiplies it in hardware, and in fp32 elsewhere."""
    log_to: str = ""
    """Where else to log settings and curves: tensorboard:///<folder>, mlflow+http://<host>/<experiment>, or several
    with commas between (see `miniml.tracking`)."""
    num_nodes: int = 1
    """Machines that train together; with more than 1 it takes a cluster with Kubeflow Trainer (see `NodeSettings`)."""
    seed: int = 42
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
        if self.checkpoints.startswith(S3_SCHEME) and s3_address("checkpoints", self.checkpoints).version:
            raise InputError(
                f"checkpoints {shown(self.checkpoints)} names a version; checkpoints have none. Write s3://bucket/path."
            )
        if "://" in self.checkpoints and not self.checkpoints.startswith(S3_SCHEME):
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
        _require_choices(self)
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


@dataclass(frozen=True)
class NodeSettings:
    """The TrainJob that trains on several nodes; of no account where `num_nodes` is 1."""

    training_runtime: str = "torch-distributed"
    """The runtime of the nodes' TrainJob. Kubeflow Trainer's own for PyTorch, or another one of its
    ClusterTrainingRuntimes (or of the namespace)."""
    node_resources: str = ""
    """What each node gets, as requests and limits: "cpu=4, memory=16Gi, nvidia.com/gpu=1". It runs a process for each
    GPU, or else one. "" leaves it to the runtime."""
    training_timeout: int = 86_400
    """Seconds after which the cluster ends the training: a safety net, for a step that was killed cannot."""
    keep_train_job: bool = False
    """Leaves the finished TrainJob and its pods on the cluster, to be looked at."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", self.training_runtime):
            raise InputError(
                f"training_runtime {shown(self.training_runtime)} cannot name a runtime. Take 'torch-distributed', or "
                f"see which there are: kubectl get clustertrainingruntimes."
            )
        require_at_least("training_timeout", self.training_timeout, 1, "It is a number of seconds.")
        _ = self.resources  # Refuses what cannot be read.

    @property
    def resources(self) -> dict[str, str]:
        """`node_resources` by name."""
        found: dict[str, str] = {}
        for entry in filter(None, (part.strip() for part in self.node_resources.split(","))):
            name, equals, quantity = (part.strip() for part in entry.partition("="))
            if not re.fullmatch(r"[\w./-]+", name) or not equals or name in found:
                raise InputError(
                    f"node_resources {shown(self.node_resources)} cannot be read at {shown(entry)}. Write each "
                    f"resource once, with commas between: cpu=4, memory=16Gi, nvidia.com/gpu=1."
                )
            require_quantity(f"node_resources {name}", quantity)
            found[name] = quantity
        return found

    @property
    def processes_per_node(self) -> int:
        gpus = (quantity for name, quantity in self.resources.items() if name.endswith("/gpu"))
        return next((int(quantity) for quantity in gpus if quantity.isdigit() and int(quantity)), 1)


@dataclass(frozen=True)
class StepSettings:
    """What the train step gets of a cluster; a laptop gives what it has. Evaluation gets the same, but for GPUs.

    Kubeflow Pipelines fills them into the pod, and takes no whole number there, as of 2.17: so GPUs are a string too.
    """

    train_cpu: str = "2"
    """The most processors that training and evaluation may use, as Kubernetes writes them: 1500m, 2."""
    train_memory: str = "4Gi"
    """The most memory that training and evaluation may take, as Kubernetes writes it: 4Gi, 16Gi."""
    train_gpus: str = ""
    """GPUs (nvidia.com/gpu) for training: 1; "" asks for none."""

    def __post_init__(self) -> None:
        for name, least in (("train_cpu", LEAST_CPU), ("train_memory", LEAST_MEMORY)):
            value = getattr(self, name)
            require_quantity(name, value)
            if _amount(value) < _amount(least):
                raise InputError(f"{name} is {shown(value)}; it must be {least} or more.")
        if not re.fullmatch(r"|0|[1-9]\d{0,2}", self.train_gpus):
            raise InputError(
                f"train_gpus is {shown(self.train_gpus)}; it is a whole number, 1 say, or empty for none."
            )

    def require_use_of_gpus(self, training: TrainingSettings) -> None:
        """Refuses GPUs that nobody would compute on.

        Raises:
            InputError: the training is on the processor, or on other machines.
        """
        if self.train_gpus in ("", "0"):
            return
        if training.num_nodes > 1:
            raise InputError(
                f"train_gpus is {self.train_gpus}, but num_nodes is {training.num_nodes}, and the step only waits for "
                f"the nodes. Leave train_gpus empty, and give each node its own by node_resources."
            )
        if training.device == "cpu":
            raise InputError(
                f"train_gpus is {self.train_gpus}, but device is 'cpu', so that they would stand idle. Set device to "
                f"'cuda'."
            )


@dataclass(frozen=True)
class EvaluationSettings:
    """How to look at the test."""

    ordered_labels: str = "auto"
    """Whether the classes have an order, as stars do: "yes" takes the labels' own, or that of the numbers they begin
    with; "auto" says yes where three or more labels all begin with a number."""
    min_slice_rows: int = 30
    """A part of the test with fewer rows is shown, and not judged: of 30 rows, the interval of an accuracy is some
    30 points wide."""

    def __post_init__(self) -> None:
        _require_choices(self)
        require_at_least("min_slice_rows", self.min_slice_rows, 1)


@dataclass(frozen=True)
class GateSettings:
    """What a model must reach to be deployed. A threshold is reached by the figure as it was measured."""

    min_accuracy: float = 0.4
    """The least accuracy on the test rows, as a fraction. Of five classes, twice what guessing gets; every job has its
    own, and `beat_majority` asks for more than guessing of any. Where a text may have several labels, all of them must
    be right (subset accuracy); a regression has none, and `min_metrics` says what it must reach."""
    min_metrics: str = ""
    """Least values of further figures of the evaluation: "macro_f1=0.7, mcc=0.4"."""
    max_calibration_error: float = 1.0
    """The most by which confidence and accuracy may differ on average (expected calibration error, freed of noise).
    More is let through where it may be noise alone. 1 asks nothing."""
    min_slice_accuracy: float = 0.0
    """The least accuracy on every slice of the test that the evaluation finds large enough; 0 asks nothing."""
    beat_baseline: bool = False
    """Whether the model must be more accurate than the report's simple baseline, beyond chance."""
    beat_majority: bool = True
    """Whether the model must be more accurate than always giving training's most frequent answer, beyond chance. Leave
    it out where one class is so frequent that a useful model costs accuracy."""
    error_rate: float = 0.05
    """How often, at most, a champion loses its place to a model that is no better, by all challengers on one test
    together; and how often such a model passes for better than the baseline or the most frequent answer."""
    min_gain: float = 0.0
    """The least gain in accuracy over the champion, as measured, that is worth a deployment; of a regression, the
    share by which its mean absolute error must be below the champion's."""

    def __post_init__(self) -> None:
        require_share("min_accuracy", self.min_accuracy)
        require_share("max_calibration_error", self.max_calibration_error)
        require_share("min_slice_accuracy", self.min_slice_accuracy)
        require_share("min_gain", self.min_gain)
        if not 0 < self.error_rate <= 0.5:
            raise InputError(
                f"error_rate is {self.error_rate}; it must be above 0 and at most 0.5, which a coin would do. "
                f"0.05 lets through 1 in 20 of those that are no better."
            )
        _ = self.least  # Refuses what cannot be read.

    @property
    def least(self) -> dict[str, float]:
        """`min_metrics` by name."""
        found: dict[str, float] = {}
        for entry in filter(None, (part.strip() for part in self.min_metrics.split(","))):
            name, equals, value = (part.strip() for part in entry.partition("="))
            try:
                least = float(value)
            except ValueError:
                least = math.nan
            if not (name and equals and math.isfinite(least)) or name in found:
                raise InputError(
                    f"min_metrics {shown(self.min_metrics)} cannot be read at {shown(entry)}. Write each metric "
                    f"once, with its least value, and commas between: macro_f1=0.7, mcc=0.4."
                )
            found[name] = least
        return found


@dataclass(frozen=True)
class ChampionSettings:
    """Which model the new one has to beat."""

    champion: str = "served"
    """"served" is what the InferenceService serves now; "none" leaves it to the absolute rules; or a model folder:
    a path, package://, s3://."""
    service_name: str = "miniml"
    """The InferenceService's name."""
    namespace: str = SERVING_NAMESPACE
    """The namespace that it is served in."""

    def __post_init__(self) -> None:
        if not self.champion.strip():
            raise InputError(
                f"champion is empty. Use {SERVED!r}, {NO_CHAMPION!r}, or the folder or s3:// address of a model."
            )
        _require_service(self.service_name, self.namespace)


@dataclass(frozen=True)
class DeploymentSettings:
    """The InferenceService to make of a model."""

    service_name: str = "miniml"
    """The InferenceService's name."""
    namespace: str = SERVING_NAMESPACE
    """The namespace to serve it in."""
    min_replicas: int = 1
    """The least number of pods."""
    max_replicas: int = 1
    """The most pods that autoscaling may start."""
    cpu: str = "2"
    """Processors of a served pod, as Kubernetes writes them: 500m, 2."""
    memory: str = "2Gi"
    """Memory of a served pod: 2Gi."""
    autoscaling_metric: str = "cpu"
    """What autoscaling goes by: cpu or memory."""
    autoscaling_target: int = 70
    """Percent of the requested `cpu` or `memory` that a pod uses on average before another one is started."""
    service_account: str = PREDICTOR_ACCOUNT
    """Of the served pods: it lists the secret with which they read the model."""
    deploy_timeout: int = 900
    """Seconds that the new model has to become ready; failures that will not mend end the wait sooner."""
    dry_run: bool = False
    """Only renders the InferenceService."""

    def __post_init__(self) -> None:
        _require_service(self.service_name, self.namespace)
        require_at_least("min_replicas", self.min_replicas, 1)
        require_at_least("max_replicas", self.max_replicas, self.min_replicas, "It is min_replicas at least.")
        require_dns_label("service_account", self.service_account, longest=63)
        _require_choices(self)
        if not 1 <= self.autoscaling_target <= 100:
            raise InputError(
                f"autoscaling_target is {self.autoscaling_target}; it is a percentage, from 1 to 100."
            )
        require_at_least("deploy_timeout", self.deploy_timeout, 1, "It is a number of seconds.")
        for name in ("cpu", "memory"):
            require_quantity(name, getattr(self, name))


def require_fraction(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise InputError(
            f"{name} is {value}; it must lie between 0 and 1, both excluded (0.2 holds out a fifth)."
        )


def require_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise InputError(f"{name} is {value}; it is a share, so it must lie between 0 and 1 (85 % is 0.85).")


MOST_EXACT = 2**53
"""Kubeflow Pipelines passes numbers as doubles, which hold no larger whole ones exactly."""


def require_seed(seed: int) -> None:
    require_at_least("seed", seed, 0)
    if seed > MOST_EXACT:
        raise InputError(f"seed is {seed:.3g}; it must be {MOST_EXACT:,} or less.")


def require_at_least(name: str, value: int, least: int, remedy: str = "") -> None:
    if value < least:
        raise InputError(f"{name} is {value}; it must be {least} or more. {remedy}".rstrip())


def require_one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InputError(f"{name} {shown(value)} is not known. Use one of {', '.join(known)}.")


def _require_choices(settings: Any) -> None:
    for name, choices in CHOICES.items():
        if hasattr(settings, name):
            require_one_of(name, getattr(settings, name), choices)


def _require_service(service_name: str, namespace: str) -> None:
    # KServe appends "-predictor" and more to the service's name, and the whole must still be a label.
    require_dns_label("service_name", service_name, longest=40)
    require_dns_label("namespace", namespace, longest=63)


def require_dns_label(name: str, value: str, longest: int) -> None:
    """Kubernetes names objects by DNS labels (RFC 1123)."""
    if len(value) > longest or not re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", value):
        raise InputError(
            f"{name} {shown(value)} cannot name a Kubernetes object. Use at most {longest} lower-case letters, digits "
            f"and hyphens, starting with a letter and not ending with a hyphen."
        )


def require_quantity(name: str, value: str) -> None:
    if not re.fullmatch(r"\d+(\.\d+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?", value, re.ASCII):
        raise InputError(f"{name} {shown(value)} is not a Kubernetes quantity. Write it as 500m, 2 or 2Gi.")


_UNITS = {
    "": 1, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40,
}  # fmt: skip


def _amount(quantity: str) -> float:
    """What a Kubernetes quantity comes to: processors, or bytes."""
    number = quantity.rstrip("".join(_UNITS))
    return float(number) * _UNITS[quantity.removeprefix(number)]
