"""nvcc compiles all kernels for all architectures without register spills; g++ compiles the torch side."""

import hashlib
import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from cuda_shim.shim import KERNELS, with_headers
from torch.utils import cpp_extension

from yoso.build import jit, toolchain

ARCHITECTURES = ("sm_80", "sm_90", "sm_100")
# Kernels whose register spills or stack frame are accepted: a part of the name, and the reason.
ACCEPTED: dict[str, str] = {
    "expectation_kernel<float, 256,": "float32, head dim above 128: row pointers, stored and loaded once per tile",
}

try:
    HOME = toolchain.cuda_home()
except toolchain.BuildError as error:
    pytest.skip(f"kernels cannot be compiled with nvcc: {error}", allow_module_level=True)


def cached(kind, source, command):
    """The command's output, cached under a digest of the command, the source and its headers."""
    digest = hashlib.sha256(f"{command} {torch.__version__} {os.path.realpath(HOME)}".encode())
    for path in sorted(with_headers(source)):
        digest.update(path.name.encode() + path.read_bytes())
    report = jit.cache_dir() / "cuda-compile" / f"{source.name}-{kind}-{digest.hexdigest()[:16]}.txt"
    if not report.exists():
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr}"
        report.parent.mkdir(parents=True, exist_ok=True)
        new = report.with_suffix(f".{os.getpid()}")
        new.write_text(done.stdout + done.stderr)
        new.replace(report)
    return report.read_text()


def compile_kernels(source):
    targets = [f"-gencode=arch={name.replace('sm', 'compute')},code={name}" for name in ARCHITECTURES]
    flags = [*jit.NVCC_FLAGS, *targets, "-Xptxas", "-v", "-Werror", "all-warnings"]
    return cached("ptxas", source, [str(HOME / "bin/nvcc"), *flags, "-c", str(source), "-o", os.devnull])


@pytest.fixture(scope="module")
def reports():
    """ptxas's report by file, compiled in as many processes as there are cores."""
    sources = sorted(KERNELS.rglob("*.cu"))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip([source.name for source in sources], pool.map(compile_kernels, sources), strict=True))


def kernels(report):
    """The name, architecture and bytes of stack frame, spill stores and spill loads of each kernel in a report."""
    pattern = (
        r"Compiling entry function '(\w+)' for '(\w+)'\n(?:.*\n)*?"
        r"\s*(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
    )
    names = [(name, arch, [int(n) for n in numbers]) for name, arch, *numbers in re.findall(pattern, report)]
    readable = subprocess.run(["c++filt"], input="\n".join(n for n, *_ in names), capture_output=True, text=True)
    return [(name, *rest) for name, (_, *rest) in zip(readable.stdout.splitlines(), names, strict=True)]


def test_no_kernel_spills_registers_or_has_a_stack_frame(reports):
    architectures, spilling = set(), []
    for file, report in reports.items():
        for name, arch, sizes in kernels(report):
            architectures.add(arch)
            if any(sizes) and not any(part in name for part in ACCEPTED):
                spilling.append(f"{file} {arch} stack {sizes[0]}, spill stores {sizes[1]}, loads {sizes[2]}: {name}")
    assert architectures == set(ARCHITECTURES)
    assert not spilling, "\n".join(spilling)


def test_accepted_spills_still_exist(reports):
    spilling = [name for report in reports.values() for name, _, sizes in kernels(report) if any(sizes)]
    assert [part for part in ACCEPTED if not any(part in name for name in spilling)] == []


def test_kernels_do_not_include_torch():
    for source in KERNELS.rglob("*.cu"):
        for path in with_headers(source):
            for included in re.findall(r"^#include [<\"](.*)[>\"]", path.read_text(), re.M):
                assert not included.startswith(("ATen", "c10", "torch")), f"{path.name} includes {included}"


def test_the_torch_side_compiles_with_torchs_cuda_headers():
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("g++ is not installed")
    include = [f"-isystem{path}" for path in [*cpp_extension.include_paths(), str(HOME / "include")]]
    # A torch without CUDA includes these headers except one that its build generates.
    flags = ["-std=c++20", "-fsyntax-only", "-Wall", "-Werror", "-DC10_USING_CUSTOM_GENERATED_MACROS"]
    sources = sorted(KERNELS.rglob("*.cpp"))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda source: cached("syntax", source, [compiler, *flags, *include, str(source)]), sources))
