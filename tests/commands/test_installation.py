"""What an installation brings: the suites from any folder, the versions, and an attention that loads little."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import harness
import yoso
from harness.commands import options_and_output
from harness.gate.commits import project_suites

ROOT = Path(__file__).parents[2]
SOURCES = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "harness", "yoso", "suites")


def test_both_packages_have_the_version_of_the_distribution(monkeypatch):
    assert yoso.__version__ == harness.__version__ == importlib.metadata.version("yoso-harness")

    def not_installed(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", not_installed)
    for package in (yoso, harness):
        with pytest.raises(AttributeError, match=f"{package.__name__}.__version__ needs an installation: pip install"):
            _ = package.__version__


ATTENTION = """
import sys, torch, yoso
query = torch.randn(1, 2, 30, 16)
yoso.yoso_sampling(query, query, query, num_hash=8)
yoso.yoso_e(query, query, query)
print(*sorted({"pytest", "plotly", "pandas", "typer", "kaleido", "transformers", "harness"} & set(sys.modules)))
"""


def test_the_attention_loads_nothing_of_the_harness_and_no_transformers():
    done = subprocess.run([sys.executable, "-c", ATTENTION], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


def test_the_suites_of_the_current_folder_are_preferred_to_those_of_the_harness(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert options_and_output.default_suites() == (str(ROOT / "suites"),)
    monkeypatch.setattr(project_suites, "shipped_suites", lambda: ROOT / "harness" / "suites")
    assert options_and_output.default_suites() == ("--pyargs", "harness.suites")
    (tmp_path / "suites").mkdir()
    assert options_and_output.default_suites() == ("suites",)


def wheel_of_a_copy(folder):
    """The pure wheel of a copy of these sources, since setuptools builds in their folder."""
    copy, out = folder / "sources", folder / "wheel"
    copy.mkdir()
    for name in SOURCES:
        source = ROOT / name
        leave_out = shutil.ignore_patterns("__pycache__")
        _ = shutil.copytree(source, copy / name, ignore=leave_out) if source.is_dir() else shutil.copy(source, copy)
    command = ["pip", "wheel", str(copy), "--no-deps", "--no-build-isolation", "--no-index", "--quiet", "-w", str(out)]
    subprocess.run([sys.executable, "-m", *command], check=True, capture_output=True, text=True)
    (built,) = out.iterdir()
    return built


@pytest.mark.alone
def test_the_wheel_has_every_file_and_runs_its_suites_from_an_empty_folder(tmp_path):
    """Also with pytest's own command, whose options are known although the suites are named with ``--pyargs``."""
    wheel = wheel_of_a_copy(tmp_path)
    assert wheel.name.endswith("-py3-none-any.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"harness/suites/{path.name}" for path in (ROOT / "suites").glob("*.py")} <= names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"harness", "yoso", "yoso_harness"}
    # Also what is no Python: templates, scripts, C++ and what `harness init` writes.
    files = [path.relative_to(ROOT) for package in ("harness", "yoso") for path in (ROOT / package).rglob("*")]
    sources = {path.as_posix() for path in files if (ROOT / path).is_file() and "__pycache__" not in path.parts}
    assert {"harness/py.typed", "yoso/py.typed"} <= sources
    assert sources <= names

    installed, folder = tmp_path / "installed", tmp_path / "empty"
    folder.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    environment = os.environ | {"PYTHONPATH": str(installed)}

    def call(*arguments):
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)

    run = "from harness.commands.app import app; app()"
    done = call("-c", run, "run", "--attention", "sdpa", "--seq-len", "64", "-k", "test_operation and fwd-")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"cases: \d+ ok\n", done.stdout)
    done = call("-m", "pytest", "--pyargs", "harness.suites", "--attention", "sdpa", "--seq-len", "64", "--co", "-q")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test_attention.py::test_operation[operation/sdpa-n64-" in done.stdout
    assert not list(installed.rglob(".pytest_cache"))
