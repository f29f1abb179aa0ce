"""Measures how well a training uses its GPU: the most memory that it took, and its share of the peak rate in bfloat16.

The share counts only the operations that the model itself needs: not those on padding, and not those of kernels that
compute something twice. It is known as model FLOPs utilization (MFU): Chowdhery et al., "PaLM: Scaling Language
Modeling with Pathways", appendix B, https://arxiv.org/abs/2204.02311.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from miniml.training.memory import share_of_layers_in_backward_pass
from miniml.training.trainable import encoder_layers

MIB = 2**20
TERA = 1e12
PEAK_BF16_TFLOPS = {
    # https://www.nvidia.com/en-us/data-center/hgx/, 36 petaFLOPS of 8 GPUs
    "B200": 2250.0,
    # "Grace Hopper Superchip", data sheet, https://nvdam.widen.net/s/rrgqqnpbz8/
    "GH200": 989.4,
    # https://www.nvidia.com/en-us/data-center/h200/, column SXM
    "H200": 989.4,
    # https://www.nvidia.com/en-us/data-center/h100/, column NVL
    "H100 NVL": 835.5,
    # "NVIDIA H100 Tensor Core GPU Architecture", column SXM5; the H200 and the GH200 have the same chip
    "H100 80GB HBM3": 989.4,
    # https://resources.nvidia.com/en-us-tensor-core/nvidia-tensor-core-gpu-datasheet, column PCIe
    "H100 PCIe": 756.5,
    # https://www.nvidia.com/content/dam/en-zz/Solutions/Data-Center/a100/pdf/nvidia-a100-datasheet-us-nvidia-1758950-r4-web.pdf
    "A100": 312.0,
    # https://images.nvidia.com/content/Solutions/data-center/a40/nvidia-a40-datasheet.pdf
    "A40": 149.7,
    # https://www.nvidia.com/content/dam/en-zz/Solutions/data-center/products/a30-gpu/pdf/a30-datasheet.pdf
    "A30": 165.0,
    # https://github.com/NVIDIA/TensorRT-LLM, tensorrt_llm/auto_parallel/cluster_info.py
    "A10G": 70.0,
    # https://www.nvidia.com/content/dam/en-zz/Solutions/Data-Center/a10/pdf/datasheet-new/nvidia-a10-datasheet.pdf
    "A10": 125.0,
    # https://resources.nvidia.com/en-us-l40s/l40s-datasheet-28413
    "L40S": 362.1,
    # https://images.nvidia.com/content/Solutions/data-center/vgpu-L40-datasheet.pdf
    "L40": 181.1,
    # https://nvdam.widen.net/s/rvq98gbwsw/l4-datasheet-2595652
    "L4": 121.0,
    # "NVIDIA Ampere GA102 GPU Architecture", version 2.0, table 3
    "RTX A6000": 154.8,
    # "NVIDIA RTX Blackwell GPU Architecture", table 3, on the three of them
    "RTX 5090": 209.5,
    "RTX 4090": 165.2,
    "RTX 3090": 71.2,
}
"""The peak rates of dense bfloat16 matrix products with sums in float32, in TFLOP/s, by a part of the name that torch
gives the GPU. Above each stands NVIDIA's document that has it; where that gives the rate for sparse matrices alone, it
is half of it."""
OTHERS_OF_A_NAME = ("NVL", "D", "Laptop")
"""Words behind a GPU's name that make another one of it, with a rate of its own: NVIDIA GeForce RTX 4090 Laptop GPU."""


def peak_flops(device_name: str) -> float | None:
    """Returns the GPU's peak rate in bfloat16, in operations a second; None if it is not in the table.

    A part of a GPU (MIG) is not in the table, as its rate is a part of the whole one's.

    Args:
        device_name: The name as torch gives it, such as "NVIDIA H100 80GB HBM3".
    """
    if " MIG " in device_name:
        return None
    of_another = rf"(?! (?:{'|'.join(OTHERS_OF_A_NAME)})\b)"
    known = (
        rate
        for name, rate in PEAK_BF16_TFLOPS.items()
        if re.search(rf"\b{re.escape(name)}\b{of_another}", device_name)
    )
    rate = next(known, None)
    return None if rate is None else rate * TERA


def flops_per_text(model: Any, lengths: npt.NDArray[np.int64]) -> float:
    """Returns the operations that training on a text takes, forward and backward, as the mean over texts.

    In an encoder whose weights are all trained, each weight of a matrix product takes 6 a token, and attention 12 times
    the width of a layer for each pair of tokens. Embeddings are looked up, and the head reads one vector a text:
    neither is counted.

    Args:
        model: A classifier of transformers, with the weights to train requiring a gradient.
        lengths: The number of tokens of each text, shape [texts].
    """
    layers = encoder_layers(model)
    matrices = [weights for weights in layers.parameters() if weights.dim() > 1]
    weights = sum(matrix.numel() for matrix in matrices)
    trained = sum(matrix.numel() for matrix in matrices if matrix.requires_grad)
    width = getattr(model.config, "hidden_size", None) or 0
    in_backward_pass = share_of_layers_in_backward_pass(model)
    of_weights = 2 * weights * (1 + in_backward_pass) + 2 * trained
    of_attention = 4 * len(layers) * width * (1 + 2 * in_backward_pass)
    tokens = lengths.astype(np.float64)
    return float((of_weights * tokens + of_attention * tokens**2).mean())


@dataclass(frozen=True)
class GpuUse:
    """Measures a training's use of its GPU; on other devices it measures nothing."""

    device: torch.device
    """The device of the training."""
    flops_per_text: float
    """The operations that a text takes (see the function of that name)."""

    @classmethod
    def begin(cls, model: Any, device: torch.device, lengths: npt.NDArray[np.int64]) -> GpuUse:
        """Begins to measure.

        Args:
            model: A classifier of transformers, with the weights to train requiring a gradient.
            device: The device of the training.
            lengths: The number of tokens of each training text, shape [texts].
        """
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        return cls(device, flops_per_text(model, lengths))

    def metrics(self, texts_per_second: float) -> dict[str, float]:
        """Returns `peak_gpu_mib` and, for a GPU in the table, `gpu_utilization`; nothing for another device.

        Args:
            texts_per_second: The texts that this device has trained on in a second.
        """
        if self.device.type != "cuda":
            return {}
        found = {"peak_gpu_mib": torch.cuda.max_memory_allocated(self.device) / MIB}
        if peak := peak_flops(torch.cuda.get_device_name(self.device)):
            found["gpu_utilization"] = self.flops_per_text * texts_per_second / peak
        return found
