"""What this process gets of the machine, and who else uses it."""

import resource
from dataclasses import dataclass

import psutil
import torch


@dataclass(frozen=True)
class CpuUse:
    """CPU seconds of all threads of this process, and how often one was taken off its core while it could go on."""

    seconds: float
    involuntary_switches: int

    @classmethod
    def now(cls) -> "CpuUse":
        """Since the start of the process."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        return cls(used.ru_utime + used.ru_stime, used.ru_nivcsw)

    def __sub__(self, earlier: "CpuUse") -> "CpuUse":
        return CpuUse(self.seconds - earlier.seconds, self.involuntary_switches - earlier.involuntary_switches)


def foreign_gpu_processes(device: str) -> int | None:
    """The number of processes with a context on a CUDA device, without those of this run.

    Of this run are this process, its ancestors, and the other processes that these started to run cases and to count
    kernels. None where the driver does not list this process itself: it then numbers processes as the host of the
    container does, and none can be recognised.
    """
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        # By UUID, because NVML and CUDA number the devices differently.
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        listed = {process.pid for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle)}
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()
    return count_foreign(listed)


def count_foreign(listed: set[int]) -> int | None:
    """How many of these process ids are not of this run; None where this process is not among them."""
    this = psutil.Process()
    if this.pid not in listed:
        return None
    # Where a shell started this process, its other children are the user's own; an interpreter is the run itself.
    parent = this.parent()
    root = parent if parent is not None and parent.exe() == this.exe() else this
    own = {this.pid, *(process.pid for process in (*this.parents(), *root.children(recursive=True)))}
    return len(listed - own)
