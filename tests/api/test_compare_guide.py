"""The code of docs/guides/compare.md runs unchanged, and gives what the guide says."""

import re
from pathlib import Path

from harness.core import store

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "compare.md"


def test_the_code_of_the_guide_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL):
        exec(compile(block, GUIDE.name, "exec"), names)
    result, approximate = names["result"], names["approximate"]
    printed = capsys.readouterr().out
    assert printed.startswith(str(result))
    assert [row.name for row in result.rows] == ["mine", "sdpa", "linear", "sdpa_again"] * 2
    assert {record.status for record in result.records} == {"ok"}
    errors = {row.name: row.error.cell for row in result.rows}
    assert errors["mine"] == "rounding"
    assert errors["linear"] == "rounding*"
    assert approximate.to_frame().set_index("attention").loc["mine", "error"] > 0.01
    assert store.load("run.json").records == result.records
    assert Path("run.html").exists()
    assert printed.count(" ok") >= 2
