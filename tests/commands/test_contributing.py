"""CONTRIBUTING.md's map is the real map."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def packages() -> set[str]:
    """Every folder with Python files under the project's three code folders, as a dotted name."""
    folders = {path.parent for top in ("harness", "yoso", "suites") for path in (ROOT / top).rglob("*.py")}
    return {".".join(folder.relative_to(ROOT).parts) for folder in folders}


def test_the_map_names_every_package_and_no_other():
    (block,) = re.findall(r"^## The map$.*?^```$(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
    named = {line.split()[0] for line in block.splitlines() if line.strip()}
    sources = {name for name in named if "/" in name}
    without_python = {"harness.report.page"}
    assert named - sources - without_python == packages() - {"harness"}
    for name in sources | without_python:
        assert (ROOT / name.replace(".", "/")).is_dir()


def test_every_file_that_it_names_is_there():
    for name in re.findall(r"`((?:harness|yoso|tests|suites|docs|examples|reports)/[\w./-]+)`", TEXT):
        assert (ROOT / name).exists() or (ROOT / "yoso" / name).exists(), name


def test_no_two_modules_have_the_same_name():
    paths = [path for top in ("harness", "yoso") for path in (ROOT / top).rglob("*.py") if path.stem != "__init__"]
    names = [path.name for path in paths]
    assert not {name for name in names if names.count(name) > 1}
