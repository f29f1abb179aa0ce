"""Initializes the head with a linear probe: a linear classifier that is fitted to the pretrained encoder's features.

The first gradients of a random head distort the encoder's features. Fine-tuning works better from a linear probe: Kumar
et al., "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution",
https://arxiv.org/abs/2202.10054. `make bench-recipes` measures the effect here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from miniml.model.classifier import TOKENS_PER_BATCH, batches_of_like_length, padded
from miniml.model.rows_apart import logits_of_rows
from miniml.progress import logger
from miniml.training.batches import EncodedTexts
from miniml.training.objective import Objective

MAX_TEXTS = 2000
SHARE = 0.3
"""The most texts for the probe, as a share of the texts that the training will see. The probe needs one forward pass a
text, a third of a training step's cost, so it takes a tenth of the training's time."""
FEWEST_TEXTS = 16
FEWEST_PER_LABEL = 8
"""With fewer texts, the probe overfits: on 18 texts of 77 classes, MiniLM began with a loss of 15; guessing has 4."""
WEIGHT_DECAY = 2e-3
"""The L2 penalty on the probe's weights; the features are not scaled. Without it, an encoder whose features hardly
differ between texts would get huge weights, and unstable first steps of fine-tuning. MiniLM's have a norm of 4."""
STEPS = 100
"""The most iterations of L-BFGS."""


def fit_head(
    model: Any,
    drawn: set[str],
    texts: EncodedTexts,
    seen: int,
    objective: Objective,
    tokenizer: Any,
    device: torch.device,
    bf16: bool,
) -> int:
    """Fits the model's last layer to the encoder's features of some training texts.

    Args:
        model: A classifier.
        drawn: The names of its randomly initialized weights. The head is not fitted if it is pretrained, or if all of
            the model is random, so that its features mean nothing.
        texts: The texts to train on, in random order; the first of them are used.
        seen: The number of texts that the training will see, counted once each time.
        objective: The loss to minimize, the same as in the training.
        tokenizer: The model's tokenizer, which pads.
        device: The device to compute the features on; the model is moved there.
        bf16: Whether to compute the features in bfloat16.

    Returns:
        The number of texts that the head was fitted to, or 0 if it was not fitted. It is also not fitted if the last
        layer does not take one vector a text; a decoder's takes one a token.
    """
    layer = _last_layer(model, drawn)
    taken = texts_fitted_to(seen, len(texts), model.config.num_labels)
    features = None
    if layer is not None and taken and not _some_label_is_missing(texts.labels, taken):
        features = _features(model, layer, texts.first(taken), tokenizer, device, bf16)
    if layer is None or features is None:
        logger.info("the head begins at random")
        return 0
    _fit(layer, features, torch.from_numpy(texts.labels[:taken]), objective)
    logger.info(f"the head begins fitted to the encoder's features of {taken:,} texts")
    return taken


def texts_fitted_to(seen: int, rows: int, labels: int) -> int:
    """Returns the number of texts to fit a probe to, or 0 if that would be too few.

    Args:
        seen: The number of texts that the training will see, counted once each time.
        rows: The number of different texts.
        labels: The number of labels.
    """
    taken = min(rows, MAX_TEXTS, int(SHARE * seen))
    return taken if taken >= max(FEWEST_TEXTS, FEWEST_PER_LABEL * labels) else 0


def _some_label_is_missing(labels: npt.NDArray[Any], taken: int) -> bool:
    """Tells whether the first texts lack a class that others have; a probe would learn never to predict it."""
    return labels.ndim == 1 and len(np.unique(labels[:taken])) < len(np.unique(labels))


def _last_layer(model: Any, drawn: set[str]) -> torch.nn.Linear | None:
    """Returns the linear layer that gives the logits, if it is random and the encoder is not."""
    if all(weights in drawn for weights, _ in model.named_parameters()):
        return None
    # The last match is the last layer of the head, even in a model that lists its head before its encoder.
    candidates = [
        part
        for name, part in model.named_modules()
        if isinstance(part, torch.nn.Linear)
        and f"{name}.weight" in drawn
        and part.out_features == model.config.num_labels
    ]
    return candidates[-1] if candidates else None


@torch.no_grad()
def _features(
    model: Any,
    layer: torch.nn.Linear,
    token_ids: Sequence[Any],
    tokenizer: Any,
    device: torch.device,
    bf16: bool,
) -> torch.Tensor | None:
    """Returns the last layer's inputs, shape [texts, features], or None if it does not take one vector a text."""
    inputs: list[torch.Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
    was_training = model.training
    model.to(device).eval()
    features: torch.Tensor | None = None
    try:
        for batch in batches_of_like_length([len(ids) for ids in token_ids], TOKENS_PER_BATCH):
            ids, mask = (
                torch.from_numpy(array).to(device)
                for array in padded(tokenizer, [token_ids[row] for row in batch])
            )
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                logits = logits_of_rows(model, model.config, ids, mask)
            vectors = inputs.pop().float().cpu()
            if vectors.shape != (len(batch), layer.in_features) or logits.shape[:-1] != (len(batch),):
                return None
            if features is None:
                features = torch.empty(len(token_ids), layer.in_features)
            features[batch] = vectors
    finally:
        hook.remove()
        model.train(was_training)
    return features


def _fit(layer: torch.nn.Linear, features: torch.Tensor, labels: torch.Tensor, objective: Objective) -> None:
    """Minimizes the objective, with weight decay, over the layer's weights and bias by L-BFGS."""
    # Features differ little from their mean, so it is subtracted, and added to the bias at the end.
    mean = features.mean(dim=0) if layer.bias is not None else torch.zeros(features.shape[1])
    inputs = features - mean
    weights = torch.zeros(layer.out_features, inputs.shape[1], requires_grad=True)
    bias = torch.zeros(layer.out_features, requires_grad=layer.bias is not None)
    parameters = [weights, bias] if bias.requires_grad else [weights]
    optimizer = torch.optim.LBFGS(parameters, max_iter=STEPS, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        total = objective.total(inputs @ weights.T + bias, labels) / len(labels)
        total = total + WEIGHT_DECAY / 2 * weights.square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        layer.weight.copy_(weights)
        if layer.bias is not None:
            layer.bias.copy_(bias - weights @ mean)
