"""Writes the model card: `README.md` in the model folder, as the hub reads it. It says only what the run has found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from miniml import __version__
from miniml.data.findings import CHECKS
from miniml.data.prepared import SPLITS
from miniml.metrics import metric_named
from miniml.model.history import margin_of_error
from miniml.model.manifest import Manifest
from miniml.reports.markdown import escaped
from miniml.settings.choices import LAST
from miniml.sources.address import locate, short_name
from miniml.task import Task
from miniml.task_registry import stored_task

CARD_NAME = "README.md"
VALIDATION = "validation_"
"""The prefix of the metrics that were measured on validation."""

# With fewer training rows of a class, a handful of odd texts decides what the model learns of it.
FEW_ROWS = 100
# From this ratio of the largest class to the smallest on, accuracy alone hides how the small ones do.
IMBALANCED = 3
# Longer tables and lists help nobody; dataset.json and miniml.json have all classes.
MAX_CLASSES, MAX_NAMES = 50, 8


def write(model_dir: Path, record: Manifest) -> None:
    """Writes the card of a model folder before it is signed; `record` is what its manifest will hold.

    Names are escaped, so that they cannot break the card's YAML or its tables.
    """
    card = ModelCard(f"---\n{_front_matter(record).to_yaml()}\n---\n\n{_body(record)}")
    (model_dir / CARD_NAME).write_text(str(card), encoding="utf-8")


def _front_matter(record: Manifest) -> ModelCardData:
    """Returns the metadata for the hub's filters. A run knows neither licence nor language, so they are missing."""
    training = record.arguments["training"]
    base = None if training["from_scratch"] else locate("model_id", training["model_id"])
    dataset = str(record.data.get("hub_id", ""))
    results = [
        EvalResult(
            task_type="text-classification",
            dataset_type=dataset or "file",
            dataset_name=dataset or short_name(record.data["source"]),
            dataset_split="validation",
            metric_type=metric_named(name).hub_name,
            metric_name=_title(name),
            metric_value=round(value, 4),
        )
        for name, value in _validation(record).items()
        if metric_named(name).hub_name
    ]
    return ModelCardData(
        base_model=(base.hub_name or None) if base else None,
        datasets=[dataset] if dataset else None,
        library_name="transformers",
        pipeline_tag="text-classification",
        tags=["miniml"],
        metrics=list(dict.fromkeys(result.metric_type for result in results)) or None,
        model_name=_name(record) if results else None,
        eval_results=results or None,
    )


def _body(record: Manifest) -> str:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("miniml.reports"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - it is Markdown, and the next line escapes for that
        finalize=lambda value: escaped(value) if isinstance(value, str) else value,
    )
    data, training = record.data, record.arguments["training"]
    classes = data["labels"]
    return environment.get_template("card.md").render(
        version=__version__,
        record=record,
        name=_name(record),
        task=stored_task(record.data),
        classes=classes,
        most_classes=MAX_CLASSES,
        splits=[split for split in SPLITS if split in data["rows"]],
        data_settings=_not_empty(record.arguments["data"]),
        settings=_not_empty(training),
        distillation=record.arguments.get("distillation"),
        shortened=record.arguments.get("shortened"),
        quantized=record.arguments.get("quantized"),
        engine=record.engine,
        found=[
            (CHECKS.get(check, check), count, data["dropped"].get(check, 0), data["cleaned"].get(check, 0))
            for check, count in data["found"].items()
        ],
        validation={_title(name): value for name, value in _validation(record).items()},
        figures={
            name: value
            for name, value in record.metrics.items()
            if not name.startswith(VALIDATION) and name != "temperature"
        },
        limits=_limits(record),
    )


def _limits(record: Manifest) -> list[str]:
    """Returns what this model cannot be relied on for, as far as its run shows; the most general first."""
    data, metrics, used = record.data, record.metrics, record.arguments["used"]
    training = record.arguments["training"]
    found = [
        "It answers in the language, the subjects and the tone of the texts above. Which languages these are was not "
        "checked, and nothing was measured on others.",
        stored_task(record.data).limit,
    ]
    if cut := metrics.get("texts_cut", 0.0):
        kept = {"right": "beginning", "left": "end"}[training["truncation_side"]]
        # A model that was shortened has the weights of one that learnt from more of each text.
        rest = (
            "" if "shortened" in record.arguments else ", and what they say beyond was not learnt from either"
        )
        found.append(
            f"It reads {used['max_length']} tokens of a text, from its {kept}. {_percent(cut)} of the training texts "
            f"are longer{rest}."
        )
    found += _limits_of_classes(data["rows_per_class"]["train"], stored_task(record.data))
    found.append(_limit_of_validation(record))
    if record.arguments["data"].get("near_duplicates") in ("report", "off"):
        found.append(
            "Rows that nearly repeat one another may stand on both sides of a split, which flatters it."
        )
    return found


def _limits_of_classes(in_training: dict[str, int], task: Task) -> Iterator[str]:
    if not in_training:
        return
    few = sorted((rows, label) for label, rows in in_training.items() if rows < FEW_ROWS)
    if few:
        names = ", ".join(f"{label} ({rows})" for rows, label in few[:MAX_NAMES])
        more = f" and {len(few) - MAX_NAMES} more" if len(few) > MAX_NAMES else ""
        yield f"It learnt from fewer than {FEW_ROWS} rows of these {task.many}: {names}{more}."
    least, most = min(in_training.values()), max(in_training.values())
    if least and most >= IMBALANCED * least:
        yield (
            f"Its {task.many} are of unequal size: the largest has {most / least:.1f} times the rows of the smallest. "
            f"Look at the figures of each {task.one}, not at the accuracy alone."
        )


def _limit_of_validation(record: Manifest) -> str:
    rows = record.data["rows"]["validation"]
    done = ["the temperature was fitted"] if "temperature" in record.metrics else []
    if record.arguments["training"]["best_by"] != LAST:
        done.append("the step whose weights were kept was chosen")
    comma = "," if len(done) > 1 else ""
    chosen = f" {', and '.join(done).capitalize()}{comma} on the same rows." if done else ""
    if not stored_task(record.data).has_accuracy:
        return f"The figures above are of {rows:,} rows, and no surer than so many make them.{chosen}"
    return (
        f"The figures above are of {rows:,} rows: chance alone moves a share by up to "
        f"{margin_of_error(rows):.1f} points either way (95 %).{chosen}"
    )


def _validation(record: Manifest) -> dict[str, float]:
    return {
        name.removeprefix(VALIDATION): value
        for name, value in record.metrics.items()
        if name.startswith(VALIDATION)
    }


def _name(record: Manifest) -> str:
    training, data = record.arguments["training"], record.data
    how = "trained from scratch" if training["from_scratch"] else "fine-tuned"
    if "distillation" in record.arguments:
        how += " and distilled"
    return f"{short_name(training['model_id'])} {how} on {data.get('hub_id') or short_name(data['source'])}"


def _not_empty(settings: dict[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in settings.items() if value != ""}


def _title(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"
