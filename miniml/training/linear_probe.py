"""The head's first weights: fitted to what the pretrained encoder says of some training texts, not drawn at random.

A random head's first gradients push the encoder about before they mean anything. A linear classifier on the encoder's
features as they are (a linear probe) is a better place to begin fine-tuning from (Kumar et al., 2022). What it does
here, `make bench-recipes` measures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from miniml.model.classifier import TOKENS_PER_BATCH, batches_of_like_length, padded
from miniml.model.rows_apart import logits_of_rows
from miniml.progress import note
from miniml.training.batches import EncodedTexts
from miniml.training.objective import Objective

MAX_TEXTS = 2000
SHARE = 0.3
"""Of the texts that training will see, those that the probe is fitted to at most. A text costs it a pass forward, a
third of what a step costs: so it takes a tenth of the training's time."""
FEWEST_TEXTS = 16
FEWEST_PER_LABEL = 8
"""Of fewer, a probe says more about them than about others, and is sure of it: MiniLM's on 18 texts of 77 classes began
with a loss of 15, where guessing has 4."""
WEIGHT_DECAY = 2e-3
"""Of the probe's weights, on the features as they are. An encoder that says nearly the same of all texts would else get
a head of huge weights, and the first steps of fine-tuning would throw it about. MiniLM's come to a length of 4."""
STEPS = 100


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
    """Gives the model's last layer the weights that suit the features of some training texts best.

    Args:
        model: A classifier.
        drawn: The names of its weights that are random. Where the head was trained before, it stays as it is, and so it
            does where all of the model is random, whose features mean nothing.
        texts: Those to train on; the first of them are taken, for their order is random.
        seen: How many texts the training is to see, each as often as it is seen.
        objective: What the training makes small, and the probe too.
        tokenizer: It says how texts are padded.
        device: Where the features are computed; the model is moved there.
        bf16: Whether they are computed in bfloat16, as the training computes.

    Returns:
        The number of texts that it was fitted to. 0 where the model stays as it is, as it also does where no last layer
        takes one vector a text (a decoder's takes each token's).
    """
    layer = _last_layer(model, drawn)
    taken = texts_fitted_to(seen, len(texts), model.config.num_labels)
    features = None
    if layer is not None and taken and not _some_label_is_missing(texts.labels, taken):
        features = _features(model, layer, texts.first(taken), tokenizer, device, bf16)
    if layer is None or features is None:
        note("the head begins at random")
        return 0
    _fit(layer, features, torch.from_numpy(texts.labels[:taken]), objective)
    note(f"the head begins fitted to the encoder's features of {taken:,} texts")
    return taken


def texts_fitted_to(seen: int, rows: int, labels: int) -> int:
    """How many texts a probe takes, of so many `rows`, before a training that sees `seen`; 0 where that is too few."""
    taken = min(rows, MAX_TEXTS, int(SHARE * seen))
    return taken if taken >= max(FEWEST_TEXTS, FEWEST_PER_LABEL * labels) else 0


def _some_label_is_missing(labels: npt.NDArray[Any], taken: int) -> bool:
    """Whether the first texts lack a class that others have, of which a probe would say that there is none."""
    return labels.ndim == 1 and len(np.unique(labels[:taken])) < len(np.unique(labels))


def _last_layer(model: Any, drawn: set[str]) -> torch.nn.Linear | None:
    """The linear layer whose outputs are the logits, where it is random and the encoder is not."""
    if all(weights in drawn for weights, _ in model.named_parameters()):
        return None
    # Some models list their head before their encoder; a head's own last layer is the last of it.
    fitting = [
        part
        for name, part in model.named_modules()
        if isinstance(part, torch.nn.Linear)
        and f"{name}.weight" in drawn
        and part.out_features == model.config.num_labels
    ]
    return fitting[-1] if fitting else None


@torch.no_grad()
def _features(
    model: Any,
    layer: torch.nn.Linear,
    token_ids: Sequence[Any],
    tokenizer: Any,
    device: torch.device,
    bf16: bool,
) -> torch.Tensor | None:
    """What goes into the last layer, shape [texts, features]; None where that is not one vector a text."""
    taken: list[torch.Tensor] = []
    listening = layer.register_forward_pre_hook(lambda _, given: taken.append(given[0]))
    was_training = model.training
    model.to(device).eval()
    found: torch.Tensor | None = None
    try:
        for batch in batches_of_like_length([len(ids) for ids in token_ids], TOKENS_PER_BATCH):
            ids, mask = (
                torch.from_numpy(array).to(device)
                for array in padded(tokenizer, [token_ids[row] for row in batch])
            )
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                logits = logits_of_rows(model, model.config, ids, mask)
            vectors = taken.pop().float().cpu()
            if vectors.shape != (len(batch), layer.in_features) or logits.shape[:-1] != (len(batch),):
                return None
            if found is None:
                found = torch.empty(len(token_ids), layer.in_features)
            found[batch] = vectors
    finally:
        listening.remove()
        model.train(was_training)
    return found


def _fit(layer: torch.nn.Linear, features: torch.Tensor, labels: torch.Tensor, objective: Objective) -> None:
    """Minimises the objective over the layer's weights, and keeps them short."""
    # Beside their mean, which is the bias's affair, features differ little.
    mean = features.mean(dim=0) if layer.bias is not None else torch.zeros(features.shape[1])
    inputs = features - mean
    weights = torch.zeros(layer.out_features, inputs.shape[1], requires_grad=True)
    bias = torch.zeros(layer.out_features, requires_grad=layer.bias is not None)
    learnt = [weights, bias] if bias.requires_grad else [weights]
    optimizer = torch.optim.LBFGS(learnt, max_iter=STEPS, line_search_fn="strong_wolfe")

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
