"""A dataset and a model name become a served classifier.

preflight -> champion -> transform -> train -> evaluate -> gate -> deploy

python -m pipelines.text_classification --help
"""

from typing import Any, NamedTuple

from kfp import dsl

from components.champion import champion as find_champion
from components.deploy import deploy
from components.evaluate import evaluate
from components.gate import gate
from components.preflight import preflight
from components.train import train
from components.transform import transform
from miniml.settings import (
    ChampionSettings,
    DataSettings,
    DeploymentSettings,
    EvaluationSettings,
    GateSettings,
    NodeSettings,
    TrainingSettings,
)
from pipelines.tasks import may_log_to_mlflow, may_use_the_store, survives_its_pod

DATA, TRAINING, NODES, EVALUATION = DataSettings(), TrainingSettings(), NodeSettings(), EvaluationSettings()
GATE, CHAMPION, DEPLOYMENT = GateSettings(), ChampionSettings(), DeploymentSettings()


class Outputs(NamedTuple):
    dataset: dsl.Dataset
    data_report: dsl.HTML
    model: dsl.Model
    training_metrics: dsl.Metrics
    training_report: dsl.HTML
    metrics: dsl.Metrics
    predictions: dsl.Dataset
    report: dsl.HTML
    verdict: dsl.Markdown


@dsl.pipeline(name="text-classification")
def text_classification(
    dataset_id: str = DATA.dataset_id,
    text_column: str = DATA.text_column,
    label_column: str = DATA.label_column,
    label_names: str = DATA.label_names,
    task: str = DATA.task,
    label_separator: str = DATA.label_separator,
    row_filter: str = DATA.row_filter,
    group_column: str = DATA.group_column,
    slice_columns: str = DATA.slice_columns,
    fix_encoding: bool = DATA.fix_encoding,
    strip_html: bool = DATA.strip_html,
    strip_control_characters: bool = DATA.strip_control_characters,
    drop_empty_texts: bool = DATA.drop_empty_texts,
    drop_unlabelled: bool = DATA.drop_unlabelled,
    max_characters: int = DATA.max_characters,
    drop_long_texts: bool = DATA.drop_long_texts,
    min_rows_per_class: int = DATA.min_rows_per_class,
    drop_rare_classes: bool = DATA.drop_rare_classes,
    conflicting_labels: str = DATA.conflicting_labels,
    near_duplicates: str = DATA.near_duplicates,
    near_duplicate_threshold: float = DATA.near_duplicate_threshold,
    train_test_split_ratio: float = DATA.train_test_split_ratio,
    max_rows: int = DATA.max_rows,
    model_id: str = TRAINING.model_id,
    from_scratch: bool = TRAINING.from_scratch,
    batch_size: int = TRAINING.batch_size,
    gradient_accumulation: int = TRAINING.gradient_accumulation,
    iterations: int = TRAINING.iterations,
    epochs: int = TRAINING.epochs,
    device: str = TRAINING.device,
    max_length: int = TRAINING.max_length,
    truncation_side: str = TRAINING.truncation_side,
    learning_rate: float = TRAINING.learning_rate,
    schedule: str = TRAINING.schedule,
    warmup_share: float = TRAINING.warmup_share,
    weight_decay: float = TRAINING.weight_decay,
    max_gradient_norm: float = TRAINING.max_gradient_norm,
    class_weights: str = TRAINING.class_weights,
    label_smoothing: float = TRAINING.label_smoothing,
    dropout: float = TRAINING.dropout,
    frozen_layers: int = TRAINING.frozen_layers,
    lora_rank: int = TRAINING.lora_rank,
    evaluations: int = TRAINING.evaluations,
    best_by: str = TRAINING.best_by,
    early_stopping: int = TRAINING.early_stopping,
    precision: str = TRAINING.precision,
    log_to: str = TRAINING.log_to,
    num_nodes: int = TRAINING.num_nodes,
    training_runtime: str = NODES.training_runtime,
    node_resources: str = NODES.node_resources,
    training_timeout: int = NODES.training_timeout,
    keep_train_job: bool = NODES.keep_train_job,
    seed: int = TRAINING.seed,
    checkpoints: str = TRAINING.checkpoints,
    checkpoint_interval: int = TRAINING.checkpoint_interval,
    ordered_labels: str = EVALUATION.ordered_labels,
    min_slice_rows: int = EVALUATION.min_slice_rows,
    min_accuracy: float = GATE.min_accuracy,
    min_metrics: str = GATE.min_metrics,
    max_calibration_error: float = GATE.max_calibration_error,
    min_slice_accuracy: float = GATE.min_slice_accuracy,
    beat_baseline: bool = GATE.beat_baseline,
    error_rate: float = GATE.error_rate,
    min_gain: float = GATE.min_gain,
    champion: str = CHAMPION.champion,
    service_name: str = DEPLOYMENT.service_name,
    namespace: str = DEPLOYMENT.namespace,
    min_replicas: int = DEPLOYMENT.min_replicas,
    max_replicas: int = DEPLOYMENT.max_replicas,
    cpu: str = DEPLOYMENT.cpu,
    memory: str = DEPLOYMENT.memory,
    autoscaling_metric: str = DEPLOYMENT.autoscaling_metric,
    autoscaling_target: int = DEPLOYMENT.autoscaling_target,
    service_account: str = DEPLOYMENT.service_account,
    deploy_timeout: int = DEPLOYMENT.deploy_timeout,
    dry_run: bool = DEPLOYMENT.dry_run,
) -> Outputs:
    """From a dataset and a model name to a served text classifier."""
    # What a cluster is like may change from run to run, so its inspection is never taken from a cache.
    checked = preflight(
        namespace=namespace,
        service_account=service_account,
        dry_run=dry_run,
        num_nodes=num_nodes,
        training_runtime=training_runtime,
    ).set_caching_options(False)
    # Nor what serves now. It is looked up before the training, so that one that cannot be compared with is told early.
    to_beat = (
        find_champion(champion=champion, service_name=service_name, namespace=namespace)
        .after(checked)
        .set_caching_options(False)
    )
    may_use_the_store(to_beat)
    data = transform(
        dataset_id=dataset_id,
        text_column=text_column,
        label_column=label_column,
        label_names=label_names,
        task=task,
        label_separator=label_separator,
        row_filter=row_filter,
        group_column=group_column,
        slice_columns=slice_columns,
        fix_encoding=fix_encoding,
        strip_html=strip_html,
        strip_control_characters=strip_control_characters,
        drop_empty_texts=drop_empty_texts,
        drop_unlabelled=drop_unlabelled,
        max_characters=max_characters,
        drop_long_texts=drop_long_texts,
        min_rows_per_class=min_rows_per_class,
        drop_rare_classes=drop_rare_classes,
        conflicting_labels=conflicting_labels,
        near_duplicates=near_duplicates,
        near_duplicate_threshold=near_duplicate_threshold,
        train_test_split_ratio=train_test_split_ratio,
        max_rows=max_rows,
        model_id=model_id,
        max_length=max_length,
        seed=seed,
    ).after(to_beat)
    may_use_the_store(data)
    training = train(
        dataset=data.outputs["dataset"],
        model_id=model_id,
        from_scratch=from_scratch,
        batch_size=batch_size,
        gradient_accumulation=gradient_accumulation,
        iterations=iterations,
        epochs=epochs,
        device=device,
        max_length=max_length,
        truncation_side=truncation_side,
        learning_rate=learning_rate,
        schedule=schedule,
        warmup_share=warmup_share,
        weight_decay=weight_decay,
        max_gradient_norm=max_gradient_norm,
        class_weights=class_weights,
        label_smoothing=label_smoothing,
        dropout=dropout,
        frozen_layers=frozen_layers,
        lora_rank=lora_rank,
        evaluations=evaluations,
        best_by=best_by,
        early_stopping=early_stopping,
        precision=precision,
        log_to=log_to,
        num_nodes=num_nodes,
        training_runtime=training_runtime,
        node_resources=node_resources,
        training_timeout=training_timeout,
        keep_train_job=keep_train_job,
        seed=seed,
        checkpoints=checkpoints,
        checkpoint_interval=checkpoint_interval,
    )
    survives_its_pod(training)
    may_use_the_store(training)
    may_log_to_mlflow(training)
    evaluation = evaluate(
        dataset=data.outputs["dataset"],
        model=training.outputs["model"],
        champion_source=to_beat.outputs["source"],
        champion_digest=to_beat.outputs["digest"],
        ordered_labels=ordered_labels,
        min_slice_rows=min_slice_rows,
    )
    may_use_the_store(evaluation)
    judged: dict[str, Any] = {
        "metrics": evaluation.outputs["metrics"],
        "champion": to_beat.outputs["record"],
        "min_accuracy": min_accuracy,
        "min_metrics": min_metrics,
        "max_calibration_error": max_calibration_error,
        "min_slice_accuracy": min_slice_accuracy,
        "beat_baseline": beat_baseline,
        "error_rate": error_rate,
        "min_gain": min_gain,
    }
    verdict = gate(**judged)
    # On a bool, never on a string: kfp.local splices strings into the expression that it evaluates.
    with dsl.If(verdict.outputs["Output"] == True, name="approved"):  # noqa: E712
        # Deploy judges again, so that nobody gets past the gate by this bool.
        deploy(
            **judged,
            model=training.outputs["model"],
            verdict=verdict.outputs["verdict"],
            approved=verdict.outputs["Output"],
            service_name=service_name,
            namespace=namespace,
            min_replicas=min_replicas,
            max_replicas=max_replicas,
            cpu=cpu,
            memory=memory,
            autoscaling_metric=autoscaling_metric,
            autoscaling_target=autoscaling_target,
            service_account=service_account,
            deploy_timeout=deploy_timeout,
            dry_run=dry_run,
            run=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
        ).set_caching_options(False)
    return Outputs(
        dataset=data.outputs["dataset"],
        data_report=data.outputs["report"],
        model=training.outputs["model"],
        training_metrics=training.outputs["metrics"],
        training_report=training.outputs["report"],
        metrics=evaluation.outputs["metrics"],
        predictions=evaluation.outputs["predictions"],
        report=evaluation.outputs["report"],
        verdict=verdict.outputs["verdict"],
    )


if __name__ == "__main__":
    from pipelines.cli import main

    main(text_classification, (preflight, find_champion, transform, train, evaluate, gate, deploy))
