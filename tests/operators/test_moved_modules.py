"""Old module names: a few are aliases of the new ones, the others raise an error that tells the new name."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness import old_module_names
from yoso import moved_modules

ALIASES = moved_modules.ALIASES | old_module_names.ALIASES
MOVED = moved_modules.MOVED | old_module_names.MOVED
ROOT = Path(__file__).parents[2]


def file_of(module):
    path = ROOT.joinpath(*module.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.exists()), None)


def run(*arguments, stdin=""):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=120, input=stdin)


def test_every_new_name_exists_and_no_old_one_does():
    table = ALIASES | MOVED
    missing = [new for new in table.values() if not file_of(new)]
    assert not missing, f"these modules have moved again: change them in the table of moved modules: {missing}"
    taken = [old for old in table if file_of(old)]
    assert not taken, f"these are modules again: remove them from the table of moved modules: {taken}"


def test_no_name_is_both_an_alias_and_an_error():
    assert not ALIASES.keys() & MOVED.keys()


@pytest.mark.parametrize(("old", "new"), ALIASES.items())
def test_an_alias_is_the_module_of_the_new_name(old, new):
    package, _, name = old.rpartition(".")
    modules = {}
    exec(f"import {old}\nfrom {package} import {name} as imported\nimport {new} as expected", modules)
    assert sys.modules[old] is modules["imported"] is modules["expected"]
    assert modules["expected"].__name__ == modules["expected"].__spec__.name == new


def test_documented_old_names_work_in_a_fresh_interpreter():
    code = """
from harness import registry
from harness.spec import Swap, TaskSpec
from harness.traits import device_reasons, head_dim
from harness.transformers_seam import attach
from harness import transformers_seam
assert transformers_seam.attach is attach
registry.names()
import harness.core.spec
assert harness.spec is harness.core.spec and harness.core.spec.__spec__.name == "harness.core.spec"
"""
    done = run("-c", code)
    assert done.returncode == 0, done.stderr


def test_importing_any_other_old_name_tells_the_new_one():
    finder = moved_modules.OldModuleNames({}, MOVED)
    for old, new in MOVED.items():
        with pytest.raises(ModuleNotFoundError, match=rf"^{old} is now {new}$"):
            finder.find_spec(old)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("import harness.measuring.verify", "harness.measuring.verify is now harness.measure.verify"),
        ("from harness.measuring import verify", "harness.measuring"),
        ("from harness import stats", "harness.stats is now harness.statistics.growth"),
        ("from yoso.hashing import draw_planes", "yoso.hashing is now yoso.ops.hashing"),
        ("from yoso import hashing", "yoso.hashing is now yoso.ops.hashing"),
        ("import yoso.no_such_module", "No module named 'yoso.no_such_module'"),
    ],
)
def test_the_error_in_a_fresh_interpreter(statement, message):
    done = run("-c", statement)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ModuleNotFoundError: " + message), done.stderr


def test_the_error_names_the_module_and_not_the_package_that_is_imported_first():
    code = """
from yoso import moved_modules
moved_modules.register({}, {"yoso.before": "yoso.after", "yoso.before.inner": "yoso.after.inside"})
import yoso.before.inner
"""
    assert run("-c", code).stderr.splitlines()[-1].endswith(": yoso.before.inner is now yoso.after.inside")


def test_python_m_runs_an_alias():
    """``python -m harness.side`` is how an older version of the harness starts the process of a newer commit."""
    done = run("-m", "harness.side", stdin='{"machine": "cpu"}\n')
    assert json.loads(done.stdout.splitlines()[-1])["commit"], done.stderr


def test_importing_the_packages_loads_neither_torch_nor_transformers():
    code = "import sys, yoso, harness; print({'torch', 'transformers', 'importlib.abc'} & set(sys.modules))"
    assert run("-S", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}").stdout.strip() == "set()"
