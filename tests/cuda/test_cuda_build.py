"""The build of the CUDA kernels: its error messages if something is missing or incompatible, and what it compiles."""

import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch

from yoso.build import jit, toolchain
from yoso.build.toolchain import BuildError


@pytest.fixture(autouse=True)
def _clear_cached_reasons(monkeypatch):
    for name in ("_load_error", "_load_error_with_warning"):
        monkeypatch.setattr(jit, name, cache(getattr(jit, name).__wrapped__))


@pytest.fixture
def devices(monkeypatch):
    """Make torch look as if it was built with CUDA 13.0 and sees devices of these compute capabilities."""

    def set_devices(*capabilities):
        monkeypatch.setattr(torch.version, "cuda", "13.0")
        monkeypatch.setattr(torch.cuda, "init", lambda: None)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(capabilities))
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index=0: capabilities[index])

    return set_devices


@pytest.fixture
def toolkit(monkeypatch, tmp_path):
    """Install a fake CUDA toolkit whose nvcc reports this release and these architectures."""

    def install(release="13.0", known="sm_80 sm_90 sm_100"):
        home = tmp_path / "cuda"
        (home / "bin").mkdir(parents=True)
        (home / "include").mkdir()
        (home / "include/cuda_runtime.h").touch()
        nvcc = home / "bin/nvcc"
        answers = f"--version) echo 'Cuda compilation tools, release {release}, V{release}.1';; *) echo {known};;"
        nvcc.write_text(f"#!/bin/sh\ncase $1 in {answers} esac\n")
        nvcc.chmod(0o755)
        monkeypatch.setenv("CUDA_HOME", str(home))
        return home

    return install


def test_torch_built_without_cuda_is_reported(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(BuildError, match=r"torch .* was built without CUDA: install a CUDA build of torch"):
        toolchain.cuda_capabilities()


def test_a_too_old_driver_is_reported_with_torchs_message(monkeypatch, devices):
    devices()

    def init():
        raise RuntimeError("The NVIDIA driver on your system is too old (found version 11040).")

    monkeypatch.setattr(torch.cuda, "init", init)
    with pytest.raises(BuildError, match=r"too old \(found version 11040\).*nvidia-smi"):
        toolchain.cuda_capabilities()


def test_a_device_below_compute_capability_8_is_refused(devices):
    devices((7, 0), (7, 5))
    with pytest.raises(BuildError, match=r"need compute capability 8\.0 or newer .* found 7\.0, 7\.5: use"):
        toolchain.cuda_capabilities()


def test_a_too_old_device_beside_a_supported_one_is_ignored(devices):
    devices((6, 1), (9, 0), (8, 0), (9, 0))
    assert toolchain.cuda_capabilities() == [(8, 0), (9, 0)]


def test_a_missing_toolkit_is_reported(monkeypatch, devices, tmp_path):
    devices((9, 0))
    exists = toolchain.Path.exists
    monkeypatch.setattr(toolchain.Path, "exists", lambda path: "/usr/local/cuda" not in str(path) and exists(path))
    monkeypatch.delenv("CUDA_PATH", raising=False)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuildError, match=r"no CUDA toolkit: .* Install the toolkit 13\.0 .* or set CUDA_HOME"):
        toolchain.cuda_home()


def test_a_toolkit_of_another_major_version_is_refused(toolkit, devices):
    devices((9, 0))
    home = toolkit("12.4")
    with pytest.raises(BuildError, match=r"is 12\.4 and torch was built with CUDA 13\.0: install a toolkit 13\.x"):
        toolchain.check_toolkit(home, [(9, 0)])


def test_a_toolkit_of_another_minor_version_is_accepted(toolkit, devices):
    devices((9, 0))
    toolchain.check_toolkit(toolkit("13.2"), [(9, 0)])


def test_a_device_that_the_toolkit_does_not_support_is_reported(toolkit, devices):
    devices((12, 1))
    home = toolkit()
    with pytest.raises(BuildError, match=r"13\.0 in .* cannot compile for .* sm_121 \(it can for sm_80, sm_90"):
        toolchain.check_toolkit(home, [(12, 1)])


def test_an_nvcc_that_does_not_run_is_reported(toolkit):
    home = toolkit()
    (home / "bin/nvcc").write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(BuildError, match=r"bin/nvcc does not run .*: reinstall the CUDA toolkit"):
        toolchain.check_toolkit(home, [(9, 0)])


def test_if_the_build_is_impossible_plain_torch_is_used_with_one_warning(toolkit, devices, monkeypatch, tmp_path):
    devices((9, 0))
    toolkit("12.4")
    monkeypatch.setenv("YOSO_CACHE", str(tmp_path / "cache"))
    with pytest.warns(RuntimeWarning, match=r"plain-torch kernels: the CUDA toolkit .* is 12\.4"):
        assert not jit.load("cuda")
    assert not jit.load("cuda")
    assert jit.describe("cuda") == "plain torch on cuda"
    # So that status() does not load the CPU library too: a process can load only one.
    monkeypatch.setattr(jit, "describe", lambda device: device)
    assert "is 12.4" in jit.status()["CUDA kernels"]


def test_the_arguments_of_a_successful_build(toolkit, devices, monkeypatch, tmp_path):
    """torch's build gets these sources and flags, and the built library is reused by the next call."""
    from torch.utils import cpp_extension

    devices((9, 0), (8, 0))
    home = toolkit()
    monkeypatch.setenv("YOSO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cpp_extension, "CUDA_HOME", None)
    calls = []

    def load(name, sources, **options):
        calls.append((sources, options))
        with open(f"{options['build_directory']}/{name}.so", "w") as library:
            library.write("built")

    monkeypatch.setattr(cpp_extension, "load", load)
    assert jit.library("cuda").read_text() == "built"
    assert jit.library("cuda").read_text() == "built"
    ((sources, options),) = calls
    assert str(home) == cpp_extension.CUDA_HOME
    names = {Path(path).name for path in sources}
    assert {"unit_rows.cu", "unit_rows.cpp"} <= names
    assert {Path(path).parents[1].name for path in sources} == {"cuda"}
    assert "-gencode=arch=compute_80,code=sm_80" in options["extra_cuda_cflags"]
    assert "-gencode=arch=compute_90,code=sm_90" in options["extra_cuda_cflags"]


def test_a_change_of_cuda_sources_does_not_rebuild_the_cpu_library(toolkit, devices, monkeypatch, tmp_path):
    devices((9, 0))
    toolkit()
    sources = tmp_path / "csrc"
    for path in ("checks.h", "cpu/a.cpp", "cuda/a.cu"):
        (sources / path).parent.mkdir(parents=True, exist_ok=True)
        (sources / path).touch()
    monkeypatch.setattr(jit, "SOURCES", sources)

    def fingerprints():
        return [jit._fingerprint(device_type, []) for device_type in ("cpu", "cuda")]

    before = fingerprints()
    (sources / "cuda/a.cu").write_text("changed")
    after = fingerprints()
    assert after[0] == before[0]
    assert after[1] != before[1]
    (sources / "checks.h").write_text("changed")
    assert all(a != b for a, b in zip(fingerprints(), after, strict=True))


def test_the_status_names_kernels_and_toolkit():
    code = "from yoso import build; print(*build.status().items(), sep='\\n')"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert "'CUDA kernels'" in done.stdout
    assert "'CUDA toolkit'" in done.stdout
