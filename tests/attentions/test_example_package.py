"""An installed third-party package adds an attention that passes the conformance tests and is in the list."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "attention_package"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Runs a Python command with the example package installed, outside the repository's working directory."""
    folder = tmp_path_factory.mktemp("installed")
    source = shutil.copytree(EXAMPLE, folder / "source")  # a copy, because the build writes into the source folder
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", folder / "site", source], check=True, timeout=300)
    paths = os.pathsep.join([str(folder / "site"), str(ROOT)])
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}

    def run(*command):
        return subprocess.run(
            [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
        )

    return run


LIST = "from harness.commands.app import app; app(['list', '--why'])"


def forward_and_backward(process, name):
    """The two cells of the first row of ``name``: whether it runs forward, and forward and backward."""
    return next(line.split()[1:3] for line in process.stdout.splitlines() if line.split()[:1] == [name])


def test_example_passes_the_conformance_tests(installed):
    conformance = ("-m", "pytest", "--pyargs", "harness.conformance", "-p", "no:cacheprovider")
    process = installed(*conformance, "--attention", "sigmoid")
    assert process.returncode == 0, process.stdout
    (passed,) = re.findall(r"(\d+) passed", process.stdout.splitlines()[-1])
    assert int(passed) > 60


def test_example_is_in_the_list(installed):
    process = installed("-c", LIST)
    assert process.returncode == 0, process.stderr
    assert forward_and_backward(process, "sigmoid") == ["yes", "yes"]


def test_list_reports_a_name_of_two_packages_and_shows_the_others(installed, tmp_path):
    other = tmp_path / "other_sigmoid-1.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: other-sigmoid\nVersion: 1\n")
    (other / "entry_points.txt").write_text("[harness.attentions]\nsigmoid = other:Sigmoid\nsixth = no_such_module:A\n")
    process = installed("-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {LIST}")
    assert process.returncode == 0, process.stderr
    assert "two entry points of group 'harness.attentions' are named 'sigmoid'" in process.stdout
    assert "'sixth' (no_such_module:A) does not load: ModuleNotFoundError" in process.stdout
    assert forward_and_backward(process, "softmax") == ["yes", "yes"]


def test_example_is_one_file_under_a_hundred_lines():
    (plugin,) = EXAMPLE.glob("*.py")
    assert len(plugin.read_text().splitlines()) < 100
