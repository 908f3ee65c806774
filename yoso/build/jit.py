"""Builds the native kernels on first use, with ninja, and loads them; says once what is missing where that fails.

The library is kept in a cache folder (``YOSO_CACHE``, else ``$XDG_CACHE_HOME/yoso``, else ``~/.cache/yoso``) under a
name made from the sources, the flags, the compilers and torch's version, so that a change of any of them builds anew
and a second start only loads. ``YOSO_CXXFLAGS`` and ``YOSO_NVCCFLAGS`` add flags, for a sanitizer (``make sanitize``)
or a profiler.
"""

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch

from yoso.build import toolchain
from yoso.build.toolchain import BuildError

SOURCES = Path(__file__).parent.parent / "csrc"
# -fopenmp at compile time alone: at::parallel_for is a template that needs it, and the runtime must be the one that
# torch has loaded, not a second one from the linker.
FLAGS = ("-O3", "-std=c++20", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-Wno-psabi")
# Torch's build takes float16's and bfloat16's conversions away, for its own types; the kernels use CUDA's.
NVCC_FLAGS = (
    "-O3",
    "-std=c++17",
    "-lineinfo",
    "-U__CUDA_NO_HALF_OPERATORS__",
    "-U__CUDA_NO_HALF_CONVERSIONS__",
    "-U__CUDA_NO_HALF2_OPERATORS__",
    "-U__CUDA_NO_BFLOAT16_CONVERSIONS__",
)
_SOURCES_OF = {"cpu": ("cpu/*.cpp",), "cuda": ("cuda/*/*.cpp", "cuda/*/*.cu")}


def cache_dir() -> Path:
    """Where built libraries are kept."""
    if chosen := os.environ.get("YOSO_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "yoso"


def load(device_type: str) -> bool:
    """Load the native kernels of a device type, building them if need be.

    Returns:
        Whether they are there. Where not, the plain-torch kernels serve, and the first call has warned with the reason.
    """
    return device_type in _SOURCES_OF and not _reason_or_warning(device_type)


@cache
def _reason_or_warning(device_type: str) -> str:
    if reason := _reason_against(device_type):
        # The stack: load, the operator, its caller.
        warnings.warn(f"YOSO runs on its slower plain-torch kernels: {reason}", RuntimeWarning, stacklevel=3)
    return reason


@cache
def _reason_against(device_type: str) -> str:
    """Load; why it failed, or nothing."""
    try:
        torch.ops.load_library(str(library(device_type)))
    except (BuildError, OSError) as error:
        return str(error)
    return ""


def library(device_type: str = "cpu") -> Path:
    """The built library of a device type's kernels, from the cache or built now.

    The CUDA library is for the compute capabilities of the devices in sight.

    Raises:
        BuildError: it cannot be built; the message says why.
    """
    nvcc_flags = _nvcc_flags() if device_type == "cuda" else []
    folder = cache_dir() / f"{device_type}-{_fingerprint(device_type, nvcc_flags)}"
    built = folder / f"yoso_{device_type}.so"
    if not built.exists():
        if device_type == "cuda":
            toolchain.need_toolkit(toolchain.cuda_home(), toolchain.cuda_capabilities())
        _build(device_type, built, nvcc_flags)
    return built


def _flags() -> list[str]:
    return [*FLAGS, *shlex.split(os.environ.get("YOSO_CXXFLAGS", ""))]


def _nvcc_flags() -> list[str]:
    targets = [f"-gencode=arch=compute_{a}{b},code=sm_{a}{b}" for a, b in toolchain.cuda_capabilities()]
    return [*NVCC_FLAGS, *targets, *shlex.split(os.environ.get("YOSO_NVCCFLAGS", ""))]


def _fingerprint(device_type: str, nvcc_flags: list[str]) -> str:
    digest = hashlib.sha256()
    parts = [torch.__version__, platform.machine(), os.path.realpath(toolchain.compiler()), *_flags(), *nvcc_flags]
    if device_type == "cuda":
        parts.append(os.path.realpath(toolchain.cuda_home()))
    for part in parts:
        digest.update(part.encode() + b"\0")
    # What every device type shares, and its own folder: a change for one device builds nothing anew for another.
    for source in sorted([*SOURCES.glob("*.h"), *filter(Path.is_file, (SOURCES / device_type).rglob("*"))]):
        digest.update(source.relative_to(SOURCES).as_posix().encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()[:16]


def _build(device_type: str, built: Path, nvcc_flags: list[str]) -> None:
    """Compile to ``built``, by way of a folder of this process alone.

    A build that was killed then leaves no lock behind that the next one would wait for, and two at once do no harm.
    """
    # Imported here: it takes longer to import than a built library to load.
    from torch.utils import cpp_extension

    toolchain.need_ninja()
    if device_type == "cuda":
        cpp_extension.CUDA_HOME = str(toolchain.cuda_home())  # where torch looked, it may have found only a link
    sources = [str(path) for pattern in _SOURCES_OF[device_type] for path in sorted(SOURCES.glob(pattern))]
    try:
        built.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="build-", dir=built.parent) as folder:
            cpp_extension.load(
                built.stem,
                sources,
                extra_cflags=_flags(),
                extra_cuda_cflags=nvcc_flags,
                build_directory=folder,
                is_python_module=False,
            )
            # Moving keeps the file that is loaded: its other name goes, its content stays.
            (Path(folder) / built.name).replace(built)
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        compilers = toolchain.compiler() + (f" or {toolchain.cuda_home()}/bin/nvcc" if device_type == "cuda" else "")
        raise BuildError(f"the compiler {compilers} failed: {error}") from error


def describe(device: str) -> str:
    """Which kernels serve a device, in words for a record.

    ``native CPU kernels (avx512)``, ``native CUDA kernels (sm_90)`` or ``plain torch``.
    """
    device_type = torch.device(device).type
    return _words(device_type, device) if load(device_type) else f"plain torch on {device_type}"


def _words(device_type: str, device: str) -> str:
    if device_type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        return f"native CUDA kernels (sm_{major}{minor})"
    return f"native CPU kernels ({torch.ops.yoso.cpu_isa()})"


def status() -> dict[str, str]:
    """What a user would ask of the build: compilers, ninja, cache and whether the kernels load; else why not."""

    def answer(ask: Callable[[], object]) -> str:
        try:
            return str(ask())
        except BuildError as error:
            return str(error)

    return {
        "compiler": answer(toolchain.compiler),
        "CUDA toolkit": answer(toolchain.cuda_home),
        "ninja": shutil.which("ninja") or "not on PATH",
        "cache": str(cache_dir()),
        "kernels": describe("cpu"),
        "CUDA kernels": _reason_against("cuda") or _words("cuda", "cuda"),
    }
