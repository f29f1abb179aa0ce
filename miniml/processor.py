"""Finds out what the processor can do, and how much of it this container may use."""

from __future__ import annotations

import functools
import os
import platform
import re
import sys
import warnings
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

CPU_INFO = Path("/proc/cpuinfo")
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
# The NVIDIA driver makes it, and a container with a GPU has it too.
NVIDIA_CONTROL = Path("/dev/nvidiactl")
# The instructions that decide how fast a model runs, the fastest first, each with the first instruction set of oneDNN
# that has it.
FEATURES = {
    "amx_bf16": "AVX512_CORE_AMX",
    "avx512_bf16": "AVX512_CORE_BF16",
    "avx512_vnni": "AVX512_CORE_VNNI",
    "avx2": "AVX2",
}
# The values of ONEDNN_MAX_CPU_ISA, each with more instructions than the one before it.
INSTRUCTION_SETS = (
    "SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI", "AVX512_CORE_BF16",
    "AVX512_CORE_FP16", "AVX10_1_512", "AVX512_CORE_AMX", "AVX10_1_512_AMX", "AVX512_CORE_AMX_FP16",
    "AVX10_1_512_AMX_FP16", "AVX10_2_512", "AVX10_2_512_AMX_2",
)  # fmt: skip
BF16_CAPABILITY = (8, 0)
"""The lowest compute capability with bfloat16 in the tensor cores, Ampere's: CUDA C++ Programming Guide, "Compute
Capabilities", https://docs.nvidia.com/cuda/cuda-c-programming-guide/."""


def usable_processors(processors: int, cpu_quota: Path = CPU_QUOTA) -> int:
    """Returns the number of processors that the container's quota (cgroup v2) allows, at most `processors`.

    A container sees all processors of its node. Threads beyond the quota use it up by waiting for each other, and then
    all of them are paused until the next period.

    Args:
        processors: The number of processors of the machine.
        cpu_quota: The cgroup's file with the quota; a missing one sets none.
    """
    try:
        quota, period = cpu_quota.read_text().split()
    except OSError:
        return processors
    if quota == "max":
        return processors
    return max(1, min(processors, int(quota) // int(period)))


@contextmanager
def threads_within_quota(cpu_quota: Path = CPU_QUOTA) -> Iterator[None]:
    """Limits torch's threads within the block to what the container's processor quota allows."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(usable_processors(before, cpu_quota))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def has_bf16(device: torch.device) -> bool:
    """Returns whether `device` multiplies bfloat16 in hardware; emulated, it is slower than float32."""
    import torch

    if device.type == "cuda":
        # ROCm's numbers are others; all GPUs that its builds of torch support have bfloat16.
        return torch.version.hip is not None or gpu_has_bf16(torch.cuda.get_device_capability(device))
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        if not (capabilities.get("amx_bf16") or capabilities.get("avx512_bf16")):
            return False
        # The environment may limit oneDNN to fewer instructions than the processor has: ONEDNN_MAX_CPU_ISA=AVX2.
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return False


def features() -> tuple[str, ...]:
    """Returns the names of `FEATURES` that this processor has and the environment leaves, the fastest first."""
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper()
    # oneDNN ignores a value that it does not know.
    allowed = INSTRUCTION_SETS.index(limit) if limit in INSTRUCTION_SETS else len(INSTRUCTION_SETS)
    return tuple(feature for feature in _built_in() if INSTRUCTION_SETS.index(FEATURES[feature]) <= allowed)


def is_capped() -> bool:
    """Returns whether the environment limits this processor to fewer of the `FEATURES` than it has."""
    return features() != _built_in()


def has_fast_bf16() -> bool:
    """Returns whether `features` has bfloat16, as `has_bf16` says of the processor, but without torch."""
    return not {"amx_bf16", "avx512_bf16"}.isdisjoint(features())


def has_fast_int8() -> bool:
    """Returns whether `features` has the instructions that add up products of 8 bits, and do it without overflow."""
    return "avx512_vnni" in features()


def _built_in() -> tuple[str, ...]:
    capabilities = _capabilities()
    return tuple(feature for feature in FEATURES if feature in capabilities)


def _capabilities() -> Set[str]:
    """Returns what the processor can do, by the names that Linux and torch have in common."""
    try:
        # Importing torch takes more than a second.
        found = re.search(r"^flags\s*:\s*(.+)$", CPU_INFO.read_text(), re.MULTILINE)
    except OSError:  # Other systems than Linux have no such file.
        found = None
    if found:
        return set(found[1].split())
    import torch

    return {name for name, there in torch.cpu.get_capabilities().items() if there}


def default_threads() -> int:
    """Returns the number of threads that torch uses: a thread for each core, or fewer if the environment says so.

    A core that runs two threads at a time multiplies no more matrices than with one.
    """
    cores = _cores()
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        # OpenMP takes a list with an entry for each level of nesting.
        first = os.environ.get(name, "").split(",")[0].strip()
        if first.isdecimal() and int(first) > 0:
            # MKL, which torch asks, uses no more threads than there are cores.
            return min(int(first), cores)
    return cores


def _cores() -> int:
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    usable = os.sched_getaffinity(0)
    return len({_siblings(number) for number in usable})


def _siblings(number: int) -> str:
    """Returns the processors of the core that a processor belongs to, as Linux lists them."""
    listed = Path(f"/sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list")
    try:
        return listed.read_text()
    except OSError:
        return str(number)


def limit_torch(threads: int) -> None:
    """Sets the number of torch's threads for the calling thread, if torch has been imported.

    OpenMP keeps the number for each calling thread.

    Args:
        threads: The number of threads.
    """
    # It may be there, but half imported by another thread.
    if set_number := getattr(sys.modules.get("torch"), "set_num_threads", None):
        set_number(threads)


def may_have_gpu() -> bool:
    """Returns whether this machine may have a GPU for torch, which takes long to import and to ask."""
    if not Path("/dev").is_dir():
        return True
    # NVIDIA's, AMD's, and those that WSL passes on.
    return any(next(Path("/dev").glob(name), None) for name in ("nvidia[0-9]*", "kfd", "dxg"))


def gpu_has_bf16(capability: tuple[int, int]) -> bool:
    """Returns whether an NVIDIA GPU of this compute capability, its major and minor number, multiplies bfloat16.

    `torch.cuda.is_bf16_supported` says yes for older GPUs too, which emulate it.
    """
    return capability >= BF16_CAPABILITY


@functools.cache
def why_no_gpu() -> str:
    """Returns why torch can use no NVIDIA GPU here; "" where it can."""
    import torch

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        if torch.cuda.is_available():
            return ""
    return explained(
        torch.version.cuda or torch.version.hip,
        os.environ.get("CUDA_VISIBLE_DEVICES"),
        [str(warning.message) for warning in warned],
    )


def explained(built_for: str | None, visible: str | None, warned: Sequence[str]) -> str:
    """Returns in words why torch can use no GPU.

    Args:
        built_for: The version of CUDA that torch is built for; None for a build for processors alone.
        visible: The environment variable CUDA_VISIBLE_DEVICES; None where it is not set.
        warned: What torch warned of when it was asked for a GPU, such as a driver that is too old.
    """
    if built_for is None:
        import torch

        return f"torch {torch.__version__} is built without CUDA"
    if visible is not None and visible.strip() in ("", "-1"):
        return f"CUDA_VISIBLE_DEVICES is {visible!r}, which hides every GPU"
    if warned:
        # The rest says where in torch's source the warning stands.
        return warned[0].partition(" (Triggered")[0].removeprefix("CUDA initialization: ").rstrip(".")
    return f"CUDA {built_for} finds no GPU that it can use"


def has_usable_gpu() -> bool:
    """Returns whether torch can use a GPU here; torch is imported only where there may be one."""
    return may_have_gpu() and not why_no_gpu()


def gpu() -> dict[str, str]:
    """Returns the name of the GPU that torch uses, as "gpu"; nothing where it can use none."""
    if not has_usable_gpu():
        return {}
    import torch

    return {"gpu": torch.cuda.get_device_name()}


def has_idle_gpu(control: Path = NVIDIA_CONTROL) -> bool:
    """Returns whether this machine or container has an NVIDIA GPU that torch cannot use.

    Args:
        control: The device file of the NVIDIA driver.
    """
    return control.exists() and bool(why_no_gpu())


def name() -> str:
    """Returns the processor's model name where the system knows it, otherwise its architecture."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", CPU_INFO.read_text(), re.MULTILINE)
    except OSError:  # Other systems than Linux have no such file.
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()
