"""``pytest tests --part I/N``: every test file is in exactly one part, and the parts take about equally long."""

import pytest
from parts_of_the_tests import ROOT, files_of_part


def test_every_file_is_in_one_part_and_the_parts_take_about_equally_long():
    files = [ROOT / "tests" / f"test_{letter}.py" for letter in "abcdef"]
    seconds = {"tests/test_a.py::test_x": 5.0, "tests/test_b.py::test_x[1]": 3.0, "tests/test_b.py::test_x[2]": 1.0}
    seconds |= {"tests/test_c.py::test_x": 2.0, "tests/gone.py::test_x": 100.0}
    parts = [files_of_part(f"{number}/2", reversed(files), seconds) for number in (1, 2)]
    assert [sorted(path.stem[-1] for path in part) for part in parts] == [["a", "d", "e", "f"], ["b", "c"]]
    assert files_of_part("1/1", files, seconds) == set(files)


@pytest.mark.parametrize("part", ["0/2", "3/2", "2", "a/b", "1/0"])
def test_a_wrong_part_is_refused_in_one_line(part):
    with pytest.raises(pytest.UsageError, match="--part must be I/N with 1 <= I <= N, for example 2/4, got"):
        files_of_part(part, [], {})
