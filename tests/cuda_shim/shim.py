"""Runs the CUDA kernels on the CPU: builds yoso/csrc/cuda with g++ and the headers beside this file, and loads them.

``cuda_runtime.h`` tells what a run on the shim proves. The kernels and their torch side become
``torch.ops.yoso_cuda_shim.*``, with the schemas of ``torch.ops.yoso.*``, for CPU tensors.
"""

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch.utils import cpp_extension

from yoso.build import jit
from yoso.ops.schemas import SCHEMAS

HERE = Path(__file__).parent
KERNELS = jit.SOURCES / "cuda"
NAMESPACE = "yoso_cuda_shim"
SHIM = [HERE / name for name in ("block.cpp", "copies.cpp", "fiber.cpp", "shared_memory.cpp")]
# Kernels access bytes through pointers of other types, which nvcc allows. The unknown pragmas are nvcc's.
FLAGS = ["-std=c++20", "-g1", "-fPIC", "-fno-strict-aliasing", "-fno-gnu-unique", "-Wall", "-Wno-unknown-pragmas"]
PLAIN = ["-O2"]
SANITIZED = ["-O1", "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def library(sanitized: bool = False) -> Path:
    """Build the kernels and their torch side into one library, or take it from the cache if nothing has changed.

    The environment variable ``YOSO_SHIM_ONLY`` limits the build to files whose names start with one of its words, for
    example ``"hash unit_rows"``, while one kernel is being developed.
    """
    only = tuple(os.environ.get("YOSO_SHIM_ONLY", "").split()) or ("",)
    kernels = [path for path in sorted(KERNELS.rglob("*")) if path.name.startswith(only)]
    sources = [*SHIM, HERE / "controls.cpp", *(path for path in kernels if path.suffix in (".cu", ".cpp"))]
    torch_libraries = ["-lc10", "-ltorch_cpu", *(f"-L{path}" for path in cpp_extension.library_paths())]
    linked = _build(sources, "so", ["-shared", "-Wl,-z,defs", *torch_libraries], sanitized)
    _check_thread_local(linked)
    return linked


def program(source: str, sanitized: bool = False) -> Path:
    """Build a program from one file in this folder."""
    return _build([*SHIM, HERE / source], "program", [], sanitized)


def _build(sources: list[Path], suffix: str, link: list[str], sanitized: bool) -> Path:
    """Compile and link. Objects are cached under a digest of their sources, headers and flags."""
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    assert compiler, "the shim needs g++: install it, or set CXX"
    cache = jit.cache_dir() / "cuda-shim"
    cache.mkdir(parents=True, exist_ok=True)
    flags = FLAGS + (SANITIZED if sanitized else PLAIN)
    include = [f"-I{HERE}", *(f"-isystem{path}" for path in cpp_extension.include_paths())]
    commands, objects = [], []
    for source in sources:
        digest = hashlib.sha256(f"{compiler} {flags} {torch.__version__}".encode())
        for path in sorted({*HERE.rglob("*.h"), *with_headers(source)}):
            digest.update(str(path).encode() + path.read_bytes())
        built = cache / f"{source.stem}{source.suffix}-{digest.hexdigest()[:16]}.o"
        objects.append(built)
        if not built.exists():
            includes_torch = source.suffix == ".cpp" and source.is_relative_to(KERNELS)
            forced = ["-include", str(HERE / "library.h")] if includes_torch else []
            commands.append(([compiler, *flags, *include, *forced, "-x", "c++", "-c", str(source)], built))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda command: _run(*command), commands))
    name = hashlib.sha256(" ".join([path.name for path in objects] + link).encode()).hexdigest()[:16]
    linked = cache / f"{sources[-1].stem}-{name}.{suffix}"
    if not linked.exists():
        _run([compiler, *flags, *map(str, objects), *link], linked)
    return linked


def with_headers(source: Path) -> set[Path]:
    """The file and all files that it includes by a path relative to itself, directly or indirectly."""
    included, waiting = set(), [source]
    while waiting:
        path = waiting.pop().resolve()
        if path not in included and path.exists():
            included.add(path)
            waiting += [path.parent / name for name in re.findall(r'^#include "(.*)"', path.read_text(), re.M)]
    return included


def _run(command: list[str], output: Path) -> None:
    """Run a compiler command whose output is written to a temporary file and then moved to ``output``."""
    with tempfile.TemporaryDirectory(dir=output.parent) as folder:
        new = Path(folder) / output.name
        done = subprocess.run([*command, "-o", str(new)], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{shlex.join(command)}\n{done.stderr}")
        if done.stderr:
            print(done.stderr)
        new.replace(output)


def _check_thread_local(linked: Path) -> None:
    """Check that only kernels' shared memory is thread-local: the shim overwrites all of it before every block."""
    symbols = subprocess.check_output(["readelf", "-sWC", str(linked)], text=True).splitlines()
    names = {" ".join(line.split()[7:]) for line in symbols if " TLS " in line}
    others = {n for n in names if "yoso::cuda::" not in n and "cuda_shim::" not in n}
    if others:
        raise RuntimeError(f"thread-local variables that are not shared memory of a kernel: {sorted(others)}")


class Shim:
    """Calls operators: ``shim.fast_hash(...)`` runs the CUDA kernels of ``torch.ops.yoso.fast_hash`` on CPU tensors.

    Tensors that the kernels' torch side allocates are filled with NaN (integers with their largest value), so that
    elements that no kernel writes are visible.
    """

    def __init__(self, linked: Path) -> None:
        for name, schema in SCHEMAS.items():
            torch.library.define(f"{NAMESPACE}::{name}", schema)
        torch.ops.load_library(str(linked))
        self._ops = getattr(torch.ops, NAMESPACE)

    def has(self, name: str) -> bool:
        """Whether the library has a kernel for this operator."""
        return torch._C._dispatch_has_kernel_for_dispatch_key(f"{NAMESPACE}::{name}", "CPU")

    def __getattr__(self, name: str):
        operator = getattr(self._ops, name)

        def call(*args, **kwargs):
            before = torch.are_deterministic_algorithms_enabled()
            torch.use_deterministic_algorithms(True)
            try:
                return operator(*args, **kwargs)
            finally:
                torch.use_deterministic_algorithms(before)

        return call

    def set_order(self, order: int) -> None:
        """Set the order in which blocks and threads run: 0 ascending, 1 descending, else the seed of a random order.

        With an odd seed, the warps of a block take turns at every warp-wide operation. In odd orders, 1 included,
        asynchronous copies arrive as late as possible.
        """
        self._ops.set_order(order)

    def set_device(self, multiprocessors: int = 132, shared_bytes: int = 227 << 10) -> None:
        """Set the device attributes that kernels can query; the defaults are those of an H100."""
        self._ops.set_device(multiprocessors, shared_bytes)
