"""Attentions that other processes find by their entry point, as those of an installed package."""

import os

import pytest


@pytest.fixture
def install(tmp_path_factory, monkeypatch):
    """Writes a module and the entry points of its attentions to a folder that new processes import from."""
    folder = tmp_path_factory.mktemp("site")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))

    def write(module, source, **attentions):
        (folder / f"{module}.py").write_text(source)
        installed = folder / f"{module}-1.dist-info"
        installed.mkdir()
        (installed / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1\n")
        lines = [f"{name} = {module}:{value}" for name, value in attentions.items()]
        (installed / "entry_points.txt").write_text("\n".join(["[harness.attentions]", *lines, ""]))

    return write
