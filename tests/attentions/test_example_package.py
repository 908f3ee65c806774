"""A third party's package, installed as its user would, adds an attention that the kit passes and the list shows."""

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
    """Runs a command where the example is installed and nothing of this checkout is the working directory."""
    place = tmp_path_factory.mktemp("installed")
    source = shutil.copytree(EXAMPLE, place / "source")  # a build leaves files in it
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", place / "site", source], check=True, timeout=300)
    paths = os.pathsep.join([str(place / "site"), str(ROOT)])
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}

    def run(*command):
        return subprocess.run(
            [sys.executable, *command], cwd=place, env=environment, capture_output=True, text=True, timeout=300
        )

    return run


LIST = "from harness.commands.app import app; app(['list', '--why'])"


def row(done, name):
    """The first line about ``name``: whether it runs forward and backward."""
    return next(line.split()[1:3] for line in done.stdout.splitlines() if line.split()[:1] == [name])


def test_the_kit_passes_it(installed):
    kit = ("-m", "pytest", "--pyargs", "harness.conformance", "-p", "no:cacheprovider")
    done = installed(*kit, "--attention", "sigmoid")
    assert done.returncode == 0, done.stdout
    (passed,) = re.findall(r"(\d+) passed", done.stdout.splitlines()[-1])
    assert int(passed) > 60


def test_the_list_has_it(installed):
    done = installed("-c", LIST)
    assert done.returncode == 0, done.stderr
    assert row(done, "sigmoid") == ["yes", "yes"]


def test_a_name_that_two_packages_took_is_said_and_the_rest_goes_on(installed, tmp_path):
    other = tmp_path / "other_sigmoid-1.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: other-sigmoid\nVersion: 1\n")
    (other / "entry_points.txt").write_text("[harness.attentions]\nsigmoid = other:Sigmoid\nsixth = no_such_module:A\n")
    done = installed("-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {LIST}")
    assert done.returncode == 0, done.stderr
    assert "two entry points of group 'harness.attentions' are named 'sigmoid'" in done.stdout
    assert "'sixth' (no_such_module:A) does not load: ModuleNotFoundError" in done.stdout
    assert row(done, "softmax") == ["yes", "yes"]


def test_it_is_one_file_under_a_hundred_lines():
    (plugin,) = EXAMPLE.glob("*.py")
    assert len(plugin.read_text().splitlines()) < 100
