"""Fingerprint of the machine: hardware, versions and settings that affect a measurement. No host name, no paths."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil
import torch

from harness.core import git
from harness.core.spec import Scalar

PACKAGES = ("torch", "transformers", "xformers", "pytest-benchmark", "numpy", "triton")
COMMIT = "HARNESS_COMMIT"
"""The environment variable with the commit of a copy of the code that has no git history."""
ISA_FLAGS = ("avx2", "fma", "avx512f", "avx512_bf16", "amx_tile", "asimd", "sve")


def fingerprint() -> dict[str, Scalar | None]:
    """One flat mapping. A value is None if this machine or environment has no such thing."""
    return _cpu() | _software() | _cuda()


def _cpu() -> dict[str, Scalar | None]:
    import cpuinfo  # takes a fifth of a second and starts a process

    info = cpuinfo.get_cpu_info()
    flags = set(info.get("flags", []))
    return {
        "cpu": info.get("brand_raw"),
        "architecture": platform.machine(),
        "cores": psutil.cpu_count(logical=False),
        "logical_cores": psutil.cpu_count(),
        "isa": " ".join(flag for flag in ISA_FLAGS if flag in flags),
        "memory_bytes": psutil.virtual_memory().total,
        "load_1min": round(psutil.getloadavg()[0], 2),
    }


def _software() -> dict[str, Scalar | None]:
    software: dict[str, Scalar | None] = {
        "os": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }
    for package in PACKAGES:
        try:
            software[package] = version(package)
        except PackageNotFoundError:
            software[package] = None
    return software | {
        "torch_threads": torch.get_num_threads(),
        "torch_cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "torch_mkl": torch.backends.mkl.is_available(),
        "torch_float32_matmul": torch.get_float32_matmul_precision(),
        "torch_cuda": torch.version.cuda,
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
    }


def _cuda() -> dict[str, Scalar | None]:
    if not torch.cuda.is_available():
        return {"cuda_device": None}
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    return {
        "cuda_device": properties.name,
        "cuda_devices": torch.cuda.device_count(),
        "cuda_capability": f"{properties.major}.{properties.minor}",
        "cuda_memory_bytes": properties.total_memory,
        "cuda_l2_bytes": properties.L2_cache_size,
        "cuda_multiprocessors": properties.multi_processor_count,
        "cudnn": torch.backends.cudnn.version(),
    } | _driver(str(properties.uuid))


def _driver(uuid: str) -> dict[str, Scalar | None]:
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return {"nvml": str(error)}
    try:
        # By UUID, because NVML and CUDA number the devices differently.
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
        return {
            "cuda_driver": pynvml.nvmlSystemGetDriverVersion(),
            "cuda_power_limit_watts": pynvml.nvmlDeviceGetPowerManagementLimit(handle) / 1000,
            "cuda_max_sm_mhz": pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_SM),
            "cuda_memory_mhz": pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_MEM),
            "cuda_celsius": pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU),
        }
    except pynvml.NVMLError as error:
        return {"nvml": str(error)}
    finally:
        pynvml.nvmlShutdown()


def commit() -> str | None:
    """The git commit of this code, with ``+dirty`` if the tree has uncommitted changes.

    Outside a checkout: the value of the environment variable ``HARNESS_COMMIT``, or None.
    """
    here = Path(__file__).resolve()
    from_environment = os.environ.get(COMMIT)
    try:
        # An installed copy inside another repository is not tracked there.
        if not git.run(here.parent, "ls-files", "--error-unmatch", here.name).ok:
            return from_environment
        revision = git.run(here.parent, "rev-parse", "HEAD")
        changes = git.run(here.parent, "status", "--porcelain")
    except git.GitError:  # no git
        return from_environment
    head = revision.stdout.strip() if revision.ok else None
    return f"{head}+dirty" if head and changes.stdout.strip() else head
