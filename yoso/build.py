"""Builds the native kernels on first use, with ninja, and loads them; says once what is missing where that fails.

The library is kept in a cache folder (``YOSO_CACHE``, else ``$XDG_CACHE_HOME/yoso``, else ``~/.cache/yoso``) under a
name made from the sources, the flags, the compiler and torch's version, so that a change of any of them builds anew
and a second start only loads. ``YOSO_CXXFLAGS`` adds flags, for a sanitizer (``make sanitize``) or a profiler.
"""

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
import warnings
from functools import cache
from pathlib import Path

import torch

SOURCES = Path(__file__).parent / "csrc"
# -fopenmp at compile time alone: at::parallel_for is a template that needs it, and the runtime must be the one that
# torch has loaded, not a second one from the linker.
FLAGS = ("-O3", "-std=c++20", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-Wno-psabi")
_CPU = ("cpu/*.cpp",)


class BuildError(RuntimeError):
    """The native kernels cannot be built here; the message says what is missing and what to do."""


def cache_dir() -> Path:
    """Where built libraries are kept."""
    if chosen := os.environ.get("YOSO_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "yoso"


@cache
def load(device_type: str) -> bool:
    """Load the native kernels of a device type, building them if need be.

    Returns:
        Whether they are there. Where not, the plain-torch kernels serve, and the first call has warned with the reason.
    """
    if device_type != "cpu":
        return False
    try:
        torch.ops.load_library(str(library()))
    except (BuildError, OSError) as error:
        warnings.warn(f"YOSO runs on its slower plain-torch kernels: {error}", RuntimeWarning, stacklevel=2)
        return False
    return True


def library() -> Path:
    """The built library of the CPU kernels, from the cache or built now.

    Raises:
        BuildError: it cannot be built; the message says why.
    """
    folder = cache_dir() / f"cpu-{_fingerprint()}"
    built = folder / "yoso_cpu.so"
    if not built.exists():
        _build(built)
    return built


def _compiler() -> str:
    name = os.environ.get("CXX", "c++")
    path = shutil.which(name)
    if path is None:
        raise BuildError(
            f"no C++ compiler: {name!r} is not on PATH. Install g++ 11 or newer (Debian: apt install g++) or set CXX"
        )
    return path


def _flags() -> list[str]:
    return [*FLAGS, *shlex.split(os.environ.get("YOSO_CXXFLAGS", ""))]


def _fingerprint() -> str:
    digest = hashlib.sha256()
    for part in (torch.__version__, platform.machine(), os.path.realpath(_compiler()), *_flags()):
        digest.update(part.encode() + b"\0")
    for source in sorted(SOURCES.rglob("*")):
        if source.is_file():
            digest.update(source.relative_to(SOURCES).as_posix().encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()[:16]


def _build(built: Path) -> None:
    """Compile to ``built``, by way of a folder of this process alone.

    A build that was killed then leaves no lock behind that the next one would wait for, and two at once do no harm.
    """
    # Imported here: it takes longer to import than a built library to load.
    from torch.utils import cpp_extension

    if not cpp_extension.is_ninja_available() and not _put_ninja_on_path():
        raise BuildError("ninja is not installed: pip install ninja")
    sources = [str(path) for pattern in _CPU for path in sorted(SOURCES.glob(pattern))]
    try:
        built.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="build-", dir=built.parent) as folder:
            cpp_extension.load(
                built.stem, sources, extra_cflags=_flags(), build_directory=folder, is_python_module=False
            )
            # Moving keeps the file that is loaded: its other name goes, its content stays.
            (Path(folder) / built.name).replace(built)
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        raise BuildError(f"the compiler {_compiler()} failed: {error}") from error


def _put_ninja_on_path() -> bool:
    """Find the ninja that pip installed, which an environment that is not activated does not have on its PATH."""
    try:
        import ninja
    except ImportError:
        return False
    os.environ["PATH"] = ninja.BIN_DIR + os.pathsep + os.environ.get("PATH", "")
    return True


def describe(device: str) -> str:
    """Which kernels serve a device, in words for a record: ``native CPU kernels (avx512)`` or ``plain torch``."""
    device_type = torch.device(device).type
    if load(device_type):
        return f"native CPU kernels ({torch.ops.yoso.cpu_isa()})"
    return f"plain torch on {device_type}"


def status() -> dict[str, str]:
    """What a user would ask of the build: compiler, ninja, cache and whether the kernels load."""
    try:
        compiler = _compiler()
    except BuildError as error:
        compiler = str(error)
    return {
        "compiler": compiler,
        "ninja": shutil.which("ninja") or "not on PATH",
        "cache": str(cache_dir()),
        "kernels": describe("cpu"),
    }
