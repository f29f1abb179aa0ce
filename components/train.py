"""train: a dataset and a pretrained encoder -> a fine-tuned, signed model folder."""

from kfp import dsl

from miniml.images import image


@dsl.component(base_image=image("train"), install_kfp_package=False)
def train(
    dataset: dsl.Input[dsl.Dataset],
    model: dsl.Output[dsl.Model],
    model_id: str,
    batch_size: int,
    iterations: int,
    epochs: int,
    device: str,
    max_length: int,
    truncation_side: str,
    learning_rate: float,
    dropout: float,
    frozen_layers: int,
    precision: str,
    seed: int,
) -> None:
    """Fine-tunes a pretrained encoder on the dataset's split train.

    Args:
        dataset: What transform wrote.
        model: A folder: safetensors, tokenizer, config, and miniml.json, which signs them.
        model_id: A hub id, a folder, package://<package>/<folder>, s3://<bucket>/<path> or s3://<bucket>/<name>@<version>.
        batch_size: Texts in one optimizer step.
        iterations: Optimizer steps; 0 trains for whole epochs.
        epochs: Passes over the training rows, where iterations is 0.
        device: cpu, cuda, cuda:1, mps or auto.
        max_length: Tokens of a text that the model sees.
        truncation_side: Where a longer text is cut: right keeps its beginning, left its end.
        learning_rate: The highest one; it warms up and then falls linearly.
        dropout: The encoder's dropout rate; 0 is fastest on a CPU.
        frozen_layers: How many of the lowest encoder layers, and the embeddings, to leave as they are.
        precision: fp32, bf16, or auto: bf16 where the processor has it.
        seed: The same seed gives the same model on the same machine.
    """
    from pathlib import Path

    from miniml.settings import TrainingSettings
    from miniml.training import fine_tune

    result = fine_tune(
        Path(dataset.path),
        Path(model.path),
        TrainingSettings(
            model_id=model_id,
            batch_size=batch_size,
            iterations=iterations,
            epochs=epochs,
            device=device,
            max_length=max_length,
            truncation_side=truncation_side,
            learning_rate=learning_rate,
            dropout=dropout,
            frozen_layers=frozen_layers,
            precision=precision,
            seed=seed,
        ),
    )
    model.metadata.update(framework="transformers", digest=result.digest, **result.metrics)
