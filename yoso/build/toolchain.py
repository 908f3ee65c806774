"""The tools that the native kernels are built with: compiler, ninja, CUDA toolkit and device.

Every function raises ``BuildError`` with a message that says what is missing and what to do.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import torch

MIN_CAPABILITY = (8, 0)
"""The first compute capability with asynchronous copies and bfloat16 tensor cores."""


class BuildError(RuntimeError):
    """The native kernels cannot be built here; the message says what is missing and what to do."""


def compiler() -> str:
    """The path of the C++ compiler, ``$CXX`` or else ``c++``.

    Raises:
        BuildError: it is not on PATH.
    """
    name = os.environ.get("CXX", "c++")
    path = shutil.which(name)
    if path is None:
        raise BuildError(
            f"no C++ compiler: {name!r} is not on PATH. Install g++ 11 or newer (Debian: apt install g++) or set CXX"
        )
    return path


def find_ninja() -> None:
    """Put the ninja that pip installed on PATH: in an environment that is not activated it is not there.

    Raises:
        BuildError: ninja is not installed.
    """
    if shutil.which("ninja"):
        return
    try:
        import ninja
    except ImportError:
        raise BuildError("ninja is not installed: pip install ninja") from None
    os.environ["PATH"] = ninja.BIN_DIR + os.pathsep + os.environ.get("PATH", "")


def cuda_home() -> Path:
    """The folder of the CUDA toolkit, with ``bin/nvcc`` and ``include/cuda_runtime.h``.

    Raises:
        BuildError: there is no such folder.
    """
    on_path = shutil.which("nvcc")
    candidates = [
        os.environ.get("CUDA_HOME"),
        os.environ.get("CUDA_PATH"),
        str(Path(on_path).resolve().parent.parent) if on_path else None,
        "/usr/local/cuda",
    ]
    for candidate in filter(None, candidates):
        if (Path(candidate) / "bin/nvcc").exists() and (Path(candidate) / "include/cuda_runtime.h").exists():
            return Path(candidate)
    raise BuildError(
        "no CUDA toolkit: neither CUDA_HOME nor PATH nor /usr/local/cuda has bin/nvcc and include/cuda_runtime.h. "
        f"Install the toolkit {torch.version.cuda or ''} (https://developer.nvidia.com/cuda-downloads) or set CUDA_HOME"
    )


def check_toolkit(home: Path, capabilities: list[tuple[int, int]]) -> None:
    """Check that the toolkit matches torch and can compile for the devices.

    Raises:
        BuildError: its major version is not that of torch's CUDA, or it cannot compile for a device.
    """
    release = re.search(r"release (\d+)\.(\d+)", _run_nvcc(home, "--version"))
    if release is None:
        raise BuildError(
            f"{home}/bin/nvcc --version prints no version, so the CUDA toolkit seems incomplete: reinstall it"
        )
    wanted = str(torch.version.cuda).partition(".")[0]
    if release[1] != wanted:
        raise BuildError(
            f"the CUDA toolkit in {home} is {release[1]}.{release[2]} and torch was built with CUDA "
            f"{torch.version.cuda}: install a toolkit {wanted}.x and set CUDA_HOME to it, or install the torch of this "
            "toolkit (https://pytorch.org)"
        )
    known = _run_nvcc(home, "--list-gpu-code").split()
    for major, minor in capabilities:
        if f"sm_{major}{minor}" not in known:
            raise BuildError(
                f"the CUDA toolkit {release[1]}.{release[2]} in {home} cannot compile for this device's "
                f"sm_{major}{minor} (it can for {', '.join(known)}): install a newer toolkit {release[1]}.x and set "
                "CUDA_HOME to it"
            )


def _run_nvcc(home: Path, option: str) -> str:
    try:
        return subprocess.run([home / "bin/nvcc", option], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise BuildError(f"{home}/bin/nvcc does not run ({error}): reinstall the CUDA toolkit") from error


def cuda_capabilities() -> list[tuple[int, int]]:
    """The compute capabilities of the visible devices that the kernels can run on, ascending.

    Raises:
        BuildError: torch has no CUDA, finds no device or too old a driver, or every device is too old.
    """
    if torch.version.cuda is None:
        raise BuildError(
            f"torch {torch.__version__} was built without CUDA: install a CUDA build of torch (https://pytorch.org)"
        )
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:  # torch's message on a missing or old driver
        raise BuildError(
            f"torch (CUDA {torch.version.cuda}) cannot use a device: {error} "
            "Check nvidia-smi: it must show a device and a driver for that CUDA or a newer one"
        ) from error
    visible = {torch.cuda.get_device_capability(index) for index in range(torch.cuda.device_count())}
    usable = sorted(capability for capability in visible if capability >= MIN_CAPABILITY)
    if not usable:
        names = ", ".join(f"{major}.{minor}" for major, minor in sorted(visible)) or "no device"
        raise BuildError(
            f"the CUDA kernels need compute capability {MIN_CAPABILITY[0]}.{MIN_CAPABILITY[1]} or newer (A100, H100 "
            f"and later), found {names}: use such a device, or the CPU"
        )
    return usable
