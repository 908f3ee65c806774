"""The kernels that a wheel brings: they are loaded where they fit; else one line says why, and the others are built."""

import json
import os
import subprocess
import sys

import pytest

from yoso.build import jit, prebuilt


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """The folder of an installed wheel with this torch's kernels."""
    folder = tmp_path / "prebuilt"
    prebuilt.write(jit.library("cpu"), jit.source_digest("cpu"), folder)
    monkeypatch.setattr(prebuilt, "FOLDER", folder)
    return folder


def change(folder, **facts):
    note = folder / prebuilt.NOTE
    note.write_text(json.dumps(json.loads(note.read_text()) | facts))


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"torch": "2.1.0"}, "are for torch 2.1.0, and this is torch 2."),
        ({"torch_commit": "abc"}, "are for another build of this torch release: of commit abc, and this is of "),
        ({"cxx11_abi": False}, "are for a torch whose C++11 ABI is False, and here it is True"),
        ({"machine": "aarch64"}, "are for aarch64 processors, and this is "),
        ({"sources": "0"}, "are not of these sources"),
        ({"sha256": "0"}, "were changed after they were built"),
    ],
)
def test_kernels_that_do_not_fit_are_not_loaded_and_one_line_says_why(shipped, facts, words):
    change(shipped, **facts)
    reason = prebuilt.load(jit.source_digest("cpu"))
    assert reason.startswith(f"the wheel's prebuilt kernels {words}")
    assert "\n" not in reason


@pytest.mark.parametrize("text", ["", "[]", "{}", "\x00", '{"torch": 3}'])
def test_a_damaged_note_is_a_reason_and_no_error(shipped, text):
    (shipped / prebuilt.NOTE).write_text(text)
    assert prebuilt.load(jit.source_digest("cpu")).startswith("the wheel's prebuilt kernels ")


def test_a_library_that_is_missing_or_cannot_be_loaded_is_a_reason(shipped):
    library = shipped / prebuilt.LIBRARY
    library.write_bytes(b"no library")
    change(shipped, sha256=prebuilt._digest(library))
    assert prebuilt.load(jit.source_digest("cpu")).startswith("the wheel's prebuilt kernels do not load: ")
    library.unlink()
    assert prebuilt.load(jit.source_digest("cpu")).startswith("the wheel's prebuilt kernels do not load: ")


CALL = """
import pathlib, sys, warnings
from yoso.build import jit, prebuilt
prebuilt.FOLDER = pathlib.Path(sys.argv[1])
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    print(jit.describe("cpu"))
print(*[str(warning.message) for warning in caught], sep="\\n")
"""


def test_without_a_compiler_the_shipped_kernels_run_or_a_line_names_both_reasons(shipped, tmp_path):
    def call():
        environment = os.environ | {"CXX": "no-such-compiler", "YOSO_CACHE": str(tmp_path / "cache")}
        command = [sys.executable, "-c", CALL, str(shipped)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()

    assert call()[0].startswith("native CPU kernels (")
    assert not (tmp_path / "cache").exists()
    change(shipped, torch="2.1.0")
    kernels, warning = call()
    assert kernels == "plain torch on cpu"
    assert "slower plain-torch kernels: the wheel's prebuilt kernels are for torch 2.1.0, and" in warning
    assert "; no C++ compiler: 'no-such-compiler' is not on PATH" in warning
