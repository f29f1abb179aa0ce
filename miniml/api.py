"""Prepares data, trains, compresses and evaluates from Python without Kubeflow: plain folders in, results out.

    import miniml

    miniml.prepare("reviews.csv", "data", label_column="stars")
    miniml.fine_tune("data", "model", model_id="distilbert/distilbert-base-cased", epochs=2)
    print(miniml.evaluate("model", "data").headline)
    print(miniml.Classifier.load("model").predict(["A wonderful film."]))

A prediction is an object of its task's class. Who names that class lets type checkers and editors know its fields:

    from miniml.tasks import SingleLabelPrediction

    classifier = miniml.Classifier.load("model", SingleLabelPrediction)
    print([prediction.label for prediction in classifier.predict(["A wonderful film."])])

A smaller model takes the full one's place unless the test shows it to lose too much:

    selection = miniml.compress("data", "model", "smaller", max_loss=0.01)
    print(selection.reason)
    result = miniml.evaluate("model", "data", smaller=selection.smaller_model("smaller"))
    print(result.compressed.sentence, result.model_digest)

Settings are keyword arguments. They are those of the command line and the components, with the same defaults; `miniml
run --help` describes them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsFloat, TypeVar

from miniml.command_line import nearest
from miniml.errors import InputError
from miniml.escaping import quoted, shown
from miniml.files.folders import require_writable_file
from miniml.settings.arguments import arguments_of, flat, settings_from
from miniml.settings.compression import CompressionSettings
from miniml.settings.data import DataSettings
from miniml.settings.evaluation import EvaluationSettings
from miniml.settings.training import TrainingSettings

if TYPE_CHECKING:
    from miniml.compression.outcome import Selection
    from miniml.data.prepared import DatasetSummary
    from miniml.evaluation.result import EvaluationResult
    from miniml.evaluation.smaller_model import SmallerModel
    from miniml.training.fine_tune import TrainingResult

PathLike = str | Path
Setting = PathLike | SupportsFloat
"""A string, a path, a number or a truth value, of Python or of NumPy."""
_Settings = TypeVar("_Settings")


def prepare(dataset_id: PathLike, dataset: PathLike, **settings: Setting) -> DatasetSummary:
    """Reads labelled texts, checks them, and splits them into train, validation and test.

    Args:
        dataset_id: A file or folder, a hub id, package://<package>/<file> or s3://<bucket>/<path>.
        dataset: The folder to write; `datasets.load_from_disk` reads it too.
        **settings: Fields of `miniml.settings.data.DataSettings`.

    Returns:
        What is known of the dataset: labels, rows by split, and what the checks found.

    Raises:
        InputError: the source, its rows or a setting cannot be used; nothing is written.
        HubError: the hub did not give the source.
        StoreError: the S3 store did not give the source.
        StorageError: the folder cannot be written.
    """
    # Imports are local here and below, because each stage has heavy dependencies of its own.
    from miniml.data import preparation

    asked = _settings(DataSettings, {**settings, "dataset_id": _source(dataset_id)})
    return preparation.prepare(asked, _path("dataset", dataset))


def fine_tune(
    dataset: PathLike, model: PathLike, *, report: PathLike | None = None, **settings: Setting
) -> TrainingResult:
    """Fine-tunes a pretrained encoder on the split train, and keeps the weights that do best in validation.

    It trains in this process; `submit` trains on several nodes.

    Args:
        dataset: The folder that `prepare` wrote, or `datasets.DatasetDict.save_to_disk`.
        model: The folder to write: safetensors, tokenizer, config, model card, and miniml.json, which signs them.
        report: Where to write an HTML report on the training; None writes none.
        **settings: Fields of `miniml.settings.training.TrainingSettings`.

    Returns:
        The model's digest, losses, validation metrics, speed and size.

    Raises:
        InputError: the dataset, the model or a setting cannot be used, or the training diverged.
        HubError: the hub did not give the model.
        StoreError: the S3 store did not give the model.
        StorageError: there is no room for the model, or for a checkpoint.
        StoppedError: the process got SIGTERM; the training so far is in a checkpoint.
    """
    from miniml.train_step.report import write_trial_report
    from miniml.training import fine_tune as training

    asked = _settings(TrainingSettings, settings)
    if asked.num_nodes != 1:
        raise InputError(f"num_nodes is {asked.num_nodes}; here it is 1. For several: miniml.submit.")
    folder = _path("model", model)
    page = _page(report, folder)
    result = training.fine_tune(_path("dataset", dataset), folder, asked)
    if page:
        write_trial_report(folder, page)
    return result


def compress(
    dataset: PathLike,
    model: PathLike,
    smaller: PathLike,
    *,
    compression: str = "auto",
    report: PathLike | None = None,
    **settings: Setting,
) -> Selection:
    """Makes smaller models of a fine-tuned one, and writes the fastest that is not inferior on the split validation.

    It trains in this process, and does not read the split test. `evaluate` does, and says whether the smaller model may
    take the full one's place.

    Args:
        dataset: The folder that the model was trained on.
        model: The folder that `fine_tune` wrote.
        smaller: The folder to write: the chosen model, or `no_model.json` with the reason why there is none.
        compression: What is tried: "layers", "length", or "auto" for both. Only here is "auto" the default.
        report: Where to write an HTML report on all smaller models; None writes none.
        **settings: Further fields of `miniml.settings.compression.CompressionSettings`.

    Returns:
        What was measured of all models, which was chosen, and why.

    Raises:
        InputError: the dataset is another one, or a setting cannot be used.
        ModelFolderError: the folder is not the one that training signed.
        StorageError: there is no room for a model, or for a checkpoint.
        StoppedError: the process got SIGTERM; the training so far is in a checkpoint.
    """
    from miniml.compression import compress as compressing

    folders = _path("dataset", dataset), _path("model", model), _path("smaller", smaller)
    asked = _settings(CompressionSettings, {**settings, "compression": compression})
    return compressing.compress(*folders, asked, _page(report))


def evaluate(
    model: PathLike,
    dataset: PathLike,
    *,
    smaller: SmallerModel | None = None,
    report: PathLike | None = None,
    **settings: Setting,
) -> EvaluationResult:
    """Evaluates a model on the split test of the dataset that it was trained on.

    Args:
        model: The folder that `fine_tune` wrote.
        dataset: The folder that it was trained on.
        smaller: A smaller model (`Selection.smaller_model` of what `compress` gave), which is evaluated in place of
            `model` unless it is inferior; None if there is none.
        report: Where to write an HTML report on the evaluation; None writes none.
        **settings: Fields of `miniml.settings.evaluation.EvaluationSettings`.

    Returns:
        Metrics with their intervals, classes, slices, the baseline's metrics, mistakes and speed, and the digest of the
        model that they are about.

    Raises:
        ModelFolderError: the folder is not the one that training signed.
        InputError: the dataset is another one, or a setting cannot be used.
    """
    from miniml.evaluation.evaluate import evaluate_model
    from miniml.evaluation.report import write_report
    from miniml.model import manifest
    from miniml.model.history import read_history

    folder, asked = _path("model", model), _settings(EvaluationSettings, settings)
    folders = [folder, smaller.folder] if smaller else [folder]
    page = _page(report, *folders)
    result = evaluate_model(folder, _path("dataset", dataset), asked, smaller=smaller)
    if page:
        evaluated = manifest.folder_with(result.model_digest, folders)
        write_report(result, manifest.read(evaluated), read_history(evaluated), page)
    return result


def _source(dataset_id: Any) -> str:
    """Returns the source as a string.

    Raises:
        InputError: it is a table in memory, or something else that names no source.
    """
    if isinstance(dataset_id, str | Path):
        return str(dataset_id)
    kind = type(dataset_id)
    if isinstance(dataset_id, dict) and hasattr(dataset_id, "save_to_disk"):
        remedy = "Write each split with to_parquet into one folder, as train.parquet and so on, and name the folder."
    elif hasattr(dataset_id, "to_parquet"):
        remedy = 'Write it with to_parquet("rows.parquet"), and name that file.'
    elif isinstance(dataset_id, list):
        remedy = 'Write it with Path("rows.json").write_text(json.dumps(rows)), and name that file.'
    else:
        remedy = "Name a file or folder, a hub id, package://<package>/<file> or s3://<bucket>/<path>."
    raise InputError(
        f"dataset_id is of type {kind.__module__}.{kind.__qualname__}; it takes a string or a Path. {remedy}"
    )


def _path(argument: str, value: Any) -> Path:
    """Returns a path.

    Raises:
        InputError: it is neither a string nor a `Path`, or no system takes it.
    """
    if not isinstance(value, str | Path):
        raise InputError(
            f"{argument} is {shown(str(value))}, of type {type(value).__name__}; it takes a string or a Path."
        )
    if "\0" in str(value):
        raise InputError(
            f"{argument} is {shown(str(value))}, with a null byte, which no path has. Leave it out."
        )
    return Path(value)


def _page(report: Any, *signed: Path) -> Path | None:
    """Returns where to write a report; None where none is asked for.

    Raises:
        InputError: it cannot be written there, or would be in one of the signed folders.
    """
    if report is None or report == "":
        return None
    path = _path("report", report)
    require_writable_file("report", path, signed)
    return path


def _settings(kind: type[_Settings], given: dict[str, Setting]) -> _Settings:
    """Builds the settings from keyword arguments.

    Raises:
        InputError: a setting does not exist, or its value cannot be used.
    """
    known = arguments_of((kind,))
    for name in given.keys() - known.keys():
        raise InputError(f"there is no setting {quoted(name)} of {kind.__name__}{nearest(name, known)}")
    return settings_from(kind, flat(given, (kind,)))
