"""Clock frequencies and power at the end of the samples of a case, as far as the machine tells.

They are read right after the last sample, while the cores or the GPU still run at the frequency that the samples had,
and never between two samples. What is needed to read them is opened before the warm-up: NVML takes milliseconds to
start, in which the clock of an idle GPU might fall. Reading two cores takes 0.04 ms of CPU time.
"""

from types import TracebackType
from typing import Any, Self

import psutil
import torch

from harness.core.record import Clocks

GPU_LIMITS = ("SwPowerCap", "HwSlowdown", "HwThermalSlowdown", "HwPowerBrakeSlowdown", "SwThermalSlowdown", "SyncBoost")
"""NVML's names of what lowers a GPU's clock, apart from idleness and settings of the user."""


class ClockReader:
    """Reads the clocks of a device; a context manager, because NVML must be closed.

    Args:
        device: the torch device that is measured.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._nvml: Any = None
        self._handle: Any = None

    def __enter__(self) -> Self:
        if torch.device(self._device).type == "cuda":
            import pynvml

            try:
                pynvml.nvmlInit()
            except pynvml.NVMLError:
                return self
            self._nvml = pynvml
            try:
                # By UUID, because NVML and CUDA number the devices differently.
                uuid = torch.cuda.get_device_properties(self._device).uuid
                self._handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
            except pynvml.NVMLError:
                self._handle = None
        return self

    def read(self) -> Clocks:
        """The clocks now."""
        if torch.device(self._device).type != "cuda":
            return Clocks(core_mhz=core_mhz())
        return Clocks() if self._handle is None else gpu_clocks(self._nvml, self._handle)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._nvml is not None:
            self._nvml.nvmlShutdown()
            self._nvml = self._handle = None


def core_mhz() -> list[float] | None:
    """The frequency of each core in MHz; None where the kernel does not tell."""
    try:
        frequencies = psutil.cpu_freq(percpu=True)
    except (OSError, NotImplementedError, RuntimeError):  # some containers and virtual machines
        return None
    known = [float(core.current) for core in frequencies or [] if core.current > 0]
    return known or None


def gpu_clocks(nvml: Any, handle: Any) -> Clocks:
    """The clocks of a GPU; None for each that its driver does not tell.

    Args:
        nvml: the module ``pynvml``, started.
        handle: its handle of the device.
    """

    def told(query: str, *arguments: object) -> int | None:
        try:
            return int(getattr(nvml, query)(handle, *arguments))
        except nvml.NVMLError:
            return None

    sm_mhz = told("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_SM)
    milliwatts = told("nvmlDeviceGetPowerUsage")
    # The older name of the query and of its bits, which every version of the library has.
    bits = told("nvmlDeviceGetCurrentClocksThrottleReasons")
    limits = None
    if bits is not None:
        limits = [name for name in GPU_LIMITS if bits & getattr(nvml, f"nvmlClocksThrottleReason{name}")]
    return Clocks(sm_mhz=sm_mhz, gpu_watts=None if milliwatts is None else milliwatts / 1000, gpu_limits=limits)
