"""train: a dataset and a pretrained encoder -> a fine-tuned, signed model folder."""

from kfp import dsl

from components.stage import stage


@stage("train")
def train(
    dataset: dsl.Input[dsl.Dataset],
    model: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    model_id: str,
    from_scratch: bool,
    batch_size: int,
    gradient_accumulation: int,
    iterations: int,
    epochs: int,
    time_limit: float,
    stop_at_step: int,
    device: str,
    max_length: int,
    truncation_side: str,
    learning_rate: float,
    schedule: str,
    warmup_share: float,
    weight_decay: float,
    max_gradient_norm: float,
    class_weights: str,
    label_smoothing: float,
    dropout: float,
    frozen_layers: int,
    lora_rank: int,
    linear_probe: bool,
    evaluations: int,
    best_by: str,
    early_stopping: int,
    precision: str,
    log_to: str,
    num_nodes: int,
    training_runtime: str,
    node_resources: str,
    training_timeout: int,
    keep_train_job: bool,
    seed: int,
    checkpoints: str,
    checkpoint_interval: int,
    trial: str = "",
    pins: str = "",
) -> None:
    """Fine-tunes a pretrained encoder on the dataset's split train; with num_nodes above 1, in a TrainJob's pods.

    Args:
        dataset: What transform wrote.
        model: A folder: safetensors, tokenizer, config, model card, and miniml.json, which signs them.
        metrics: Losses, validation's figures, speed and size.
        report: One page with the curves, the settings and the machine.
        model_id: A hub id, a folder, package://<package>/<folder>, s3://<bucket>/<path> or s3://<bucket>/<name>@<version>.
        from_scratch: Takes the model's architecture and tokenizer only; its weights are drawn anew.
        batch_size: Texts whose gradients are computed together.
        gradient_accumulation: Batches in one optimizer step.
        iterations: Optimizer steps; 0 trains for whole epochs.
        epochs: Passes over the training rows, where iterations is 0.
        time_limit: Minutes that the training may take in all, of whose steps as many are trained as fit; 0 sets none.
            In a search, of all trials together.
        stop_at_step: Ends the training after this step of its schedule; 0 trains to the end.
        device: cpu, cuda, cuda:1, mps or auto.
        max_length: Tokens of a text that the model sees.
        truncation_side: Where a longer text is cut: right keeps its beginning, left its end.
        learning_rate: The highest one, after the warm-up. LoRA takes some ten times that of a full training.
        schedule: How the learning rate falls then: linear, cosine or constant.
        warmup_share: The share of the steps over which the learning rate rises.
        weight_decay: By how much, times the learning rate, a step shrinks the weights.
        max_gradient_norm: A longer gradient is cut to this length; 0 never cuts.
        class_weights: none, or balanced: a text of a rare class counts for more, so that all classes count alike.
        label_smoothing: The share of each label that is spread over all classes.
        dropout: The encoder's dropout rate; 0 is fastest on a CPU.
        frozen_layers: How many of the lowest encoder layers, and the embeddings, to keep; -1 keeps the whole encoder.
        lora_rank: Above 0, two matrices of this rank learn beside each of the encoder's linear layers (LoRA).
        linear_probe: Begins with a head that was fitted to the encoder's features as they are, not with a random one.
        evaluations: Points of the validation curve.
        best_by: Which point's weights to keep: the best by accuracy (or what the task has for it), macro_f1 or loss, or
            the last.
        early_stopping: Ends the training after so many points in a row that were no better by best_by; 0 never does.
        precision: fp32, bf16, or auto: bf16 where the processor has it.
        log_to: Where else to log: tensorboard:///<folder>, mlflow+http://<host>/<experiment>, or both with a comma.
        num_nodes: Machines that train together; more than 1 take a cluster with Kubeflow Trainer.
        training_runtime: The (Cluster)TrainingRuntime of their TrainJob.
        node_resources: What each of them gets, as in cpu=4, memory=16Gi, nvidia.com/gpu=1.
        training_timeout: Seconds after which the cluster ends the TrainJob.
        keep_train_job: Leaves the finished TrainJob on the cluster.
        seed: The same seed gives the same model on the same machine.
        checkpoints: Where a killed training finds what to go on from: a folder, s3://<bucket>/<path>, or none; empty
            is this machine's cache, or the model's own bucket.
        checkpoint_interval: Seconds of training that may be lost; 0 saves after every step.
        trial: In a search, a JSON object of the arguments above with the values to try in their place, and what to know
            of the search. Where they come to nothing (the training diverges), model is a folder that says so, and the
            search goes on.
        pins: What preflight found the model to be, so that this run reads that, and a cache goes by it.
    """
    import json
    import os
    from pathlib import Path

    from miniml.search.plan import pins_of
    from miniml.settings import NodeSettings, TrainingSettings

    settings = TrainingSettings(
        model_id=model_id,
        from_scratch=from_scratch,
        batch_size=batch_size,
        gradient_accumulation=gradient_accumulation,
        iterations=iterations,
        epochs=epochs,
        time_limit=time_limit,
        stop_at_step=stop_at_step,
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
        linear_probe=linear_probe,
        evaluations=evaluations,
        best_by=best_by,
        early_stopping=early_stopping,
        precision=precision,
        log_to=log_to,
        num_nodes=num_nodes,
        seed=seed,
        checkpoints=checkpoints,
        checkpoint_interval=checkpoint_interval,
    )
    pins = pins or pins_of(trial)
    if num_nodes > 1:
        from miniml.search.plan import on_its_own
        from miniml.train_job import fine_tune_on_nodes
        from miniml.trainer_sdk import Step

        signed = fine_tune_on_nodes(
            dataset.uri,
            Path(model.path),
            model.uri,
            on_its_own(settings, trial),
            NodeSettings(
                training_runtime=training_runtime,
                node_resources=node_resources,
                training_timeout=training_timeout,
                keep_train_job=keep_train_job,
            ),
            Step.in_this_pod(os.environ.get("KFP_POD_NAME", ""), container="main"),
            pins=pins,
        )
        digest, figures = signed.digest, signed.metrics
        from miniml.training.trial import write_trial_report

        write_trial_report(Path(model.path), Path(report.path))
    else:
        from miniml.watched_training import Request, fine_tune_watched

        result = fine_tune_watched(
            Request(Path(dataset.path), Path(model.path), settings, trial, model.uri, pins, Path(report.path))
        )
        digest, figures = result.digest, result.metrics
    model.metadata.update(framework="transformers", digest=digest, **figures)
    for name, value in figures.items():
        metrics.log_metric(name, value)
    # An artifact that is not on disk is never found again by the local cache.
    Path(metrics.path).write_text(json.dumps(figures, indent=2) + "\n")
