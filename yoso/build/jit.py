"""Loads the native kernels: those of the wheel, or those that it builds with ninja on first use.

A wheel of one platform has the CPU kernels (``yoso.build.prebuilt``). If they do not fit, and for all other kernels,
the library is built and kept in a cache folder (``yoso.build.cache``). Its name is a hash of the sources, flags,
compilers and torch's version, so that a change to any of them causes a new build and later starts only load it. Where
neither works, one warning says why. ``YOSO_CXXFLAGS`` and ``YOSO_NVCCFLAGS`` add compiler flags, for a sanitizer
(``make sanitize``) or a profiler.
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

from yoso.build import prebuilt, toolchain
from yoso.build.cache import cache_dir, is_whole, locked, private_dir_instead, put, why_unsafe
from yoso.build.toolchain import BuildError
from yoso.build.watchdog import watched

SOURCES = Path(__file__).parent.parent / "csrc"
# -fopenmp is a compile flag only: the template at::parallel_for needs it, but the linker must not add a second OpenMP
# runtime besides the one that torch has loaded.
FLAGS = ("-O3", "-std=c++20", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-Wno-psabi")
# Torch's build flags disable CUDA's float16 and bfloat16 operators in favour of torch's own types; the kernels use
# CUDA's, so they are enabled again.
NVCC_FLAGS = (
    "-O3",
    "-std=c++17",
    "-lineinfo",
    "-U__CUDA_NO_HALF_OPERATORS__",
    "-U__CUDA_NO_HALF_CONVERSIONS__",
    "-U__CUDA_NO_HALF2_OPERATORS__",
    "-U__CUDA_NO_BFLOAT16_CONVERSIONS__",
)
_SOURCE_PATTERNS = {"cpu": ("cpu/*.cpp",), "cuda": ("cuda/*/*.cpp", "cuda/*/*.cu")}


def load(device_type: str) -> bool:
    """Load the native kernels of a device type; build them first if necessary.

    Returns:
        Whether they are loaded. If not, the operators run on the plain-torch kernels, and the first call warns with
        the reason.
    """
    return device_type in _SOURCE_PATTERNS and not _load_error_with_warning(device_type)


@cache
def _load_error_with_warning(device_type: str) -> str:
    if reason := _load_error(device_type):
        # The warning names the operator's caller: the stack above it is load and the operator.
        warnings.warn(f"YOSO runs on its slower plain-torch kernels: {reason}", RuntimeWarning, stacklevel=3)
    return reason


@cache
def _load_error(device_type: str) -> str:
    """Load the library; return why it failed, or an empty string."""
    misfit = ""
    # Whoever asks for other flags wants the kernels that are built with them.
    if device_type == "cpu" and prebuilt.is_there() and not os.environ.get("YOSO_CXXFLAGS"):
        misfit = prebuilt.load(source_digest("cpu"))
        if not misfit:
            return ""
    try:
        torch.ops.load_library(str(library(device_type)))
    except (BuildError, OSError) as error:
        return f"{misfit}; {error}" if misfit else str(error)
    return ""


def library(device_type: str = "cpu") -> Path:
    """The library of a device type's kernels, from the cache or built now; never the one of a wheel.

    The CUDA library is built for the compute capabilities of the visible devices.

    Raises:
        BuildError: it cannot be built; the message says why and what to do.
    """
    nvcc_flags = _nvcc_flags() if device_type == "cuda" else []
    name = Path(f"{device_type}-{_fingerprint(device_type, nvcc_flags)}", f"yoso_{device_type}.so")
    built = _folder_for(name) / name
    if is_whole(built):
        return built
    try:
        built.parent.mkdir(mode=0o755, exist_ok=True)
        with locked(built.parent):
            if not is_whole(built):  # another process may have built it meanwhile
                if device_type == "cuda":
                    toolchain.check_toolkit(toolchain.cuda_home(), toolchain.cuda_capabilities())
                _build(device_type, built, nvcc_flags)
    except OSError as error:
        raise BuildError(
            f"{built.parent} cannot keep the kernels ({error}): set YOSO_CACHE to another folder"
        ) from error
    return built


def _folder_for(name: Path) -> Path:
    """The cache, or a private folder if the cache neither has the library ``name`` nor can be given it."""
    folder = cache_dir()
    if is_whole(folder / name):
        return folder
    if not os.access(folder, os.W_OK):
        return private_dir_instead(folder, "cannot be written and does not have these kernels")
    inner = (folder / name).parent
    reason = why_unsafe(inner) if inner.exists() else ""
    return private_dir_instead(inner, reason) if reason else folder


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
    _add_sources(digest, device_type)
    return digest.hexdigest()[:16]


def source_digest(device_type: str) -> str:
    """A checksum of what a device type's kernels are compiled from."""
    digest = hashlib.sha256()
    _add_sources(digest, device_type)
    return digest.hexdigest()


def _add_sources(digest: "hashlib._Hash", device_type: str) -> None:
    # Only the shared headers and the device type's own folder: a change for one device type rebuilds no other.
    for source in sorted([*SOURCES.glob("*.h"), *filter(Path.is_file, (SOURCES / device_type).rglob("*"))]):
        digest.update(source.relative_to(SOURCES).as_posix().encode() + b"\0" + source.read_bytes())


def _build(device_type: str, built: Path, nvcc_flags: list[str]) -> None:
    """Compile in a temporary folder and move the result to ``built``, whose folder is locked.

    If this process is killed, the compilers and the temporary folder are gone, too.
    """
    # Imported here because the import takes longer than loading a built library.
    from torch.utils import cpp_extension

    toolchain.find_ninja()
    if device_type == "cuda":
        cpp_extension.CUDA_HOME = str(toolchain.cuda_home())  # torch's own search may have found only a link to nvcc
    sources = [str(path) for pattern in _SOURCE_PATTERNS[device_type] for path in sorted(SOURCES.glob(pattern))]
    try:
        with (
            tempfile.TemporaryDirectory(prefix="build-", dir=built.parent, ignore_cleanup_errors=True) as folder,
            watched(Path(folder)),
        ):
            cpp_extension.load(
                built.stem,
                sources,
                extra_cflags=_flags(),
                extra_cuda_cflags=nvcc_flags,
                build_directory=folder,
                is_python_module=False,
            )
            # cpp_extension.load has loaded the file already; moving it changes its name and not the loaded content.
            put(Path(folder) / built.name, built)
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        compilers = toolchain.compiler() + (f" or {toolchain.cuda_home()}/bin/nvcc" if device_type == "cuda" else "")
        raise BuildError(f"the compiler {compilers} failed: {error}") from error


def describe(device: str) -> str:
    """The kernels that run on a device, as text for a record.

    Returns:
        For example ``native CPU kernels (avx512)``, ``native CUDA kernels (sm_90)`` or ``plain torch on cpu``.
    """
    device_type = torch.device(device).type
    return _describe_native(device_type, device) if load(device_type) else f"plain torch on {device_type}"


def _describe_native(device_type: str, device: str) -> str:
    if device_type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        return f"native CUDA kernels (sm_{major}{minor})"
    return f"native CPU kernels ({torch.ops.yoso.cpu_isa()})"


def status() -> dict[str, str]:
    """The state of the build by topic: compilers, ninja, cache, and the kernels or why they cannot be loaded."""

    def result_or_error(find: Callable[[], object]) -> str:
        try:
            return str(find())
        except BuildError as error:
            return str(error)

    return {
        "compiler": result_or_error(toolchain.compiler),
        "CUDA toolkit": result_or_error(toolchain.cuda_home),
        "ninja": shutil.which("ninja") or "not on PATH",
        "prebuilt": f"in {prebuilt.FOLDER}" if prebuilt.is_there() else "none: this is no wheel of one platform",
        "cache": str(cache_dir()),
        "kernels": describe("cpu"),
        "CUDA kernels": _load_error("cuda") or _describe_native("cuda", "cuda"),
    }
