"""``harness publish``: a run is added, the index lists it, and existing data stays byte for byte."""

import hashlib
import json
from pathlib import Path
from urllib.parse import unquote

import pytest
import report_page
import synthetic
from typer.testing import CliRunner

from harness.commands.app import app
from harness.core.record import Run
from harness.report.formats import published_runs


def save(path: Path, **changes: object) -> Path:
    run: Run = synthetic.realistic(lengths=(512,), modes=("forward",)).model_copy(update=changes)
    path.write_text(json.dumps({"harness": json.loads(run.model_dump_json())}), encoding="utf-8")
    return path


def data_of(reports: Path) -> dict[str, str]:
    found = [*reports.rglob("*.json"), *reports.rglob("*.jsonl")]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def test_runs_are_listed_newest_first_and_never_rewritten(tmp_path: Path) -> None:
    reports = tmp_path / "reports"
    older = published_runs.publish(save(tmp_path / "a.json", started="2026-01-02T03:04:05Z"), reports, "older")
    before = data_of(reports)
    page = (older / "report.html").read_bytes()
    published_runs.publish(
        save(tmp_path / "b.json", started="2026-02-02T03:04:05Z", machine={"cuda_device": "GPU <b>X</b>"}), reports
    )
    assert before.items() < data_of(reports).items()
    assert (older / "report.html").read_bytes() == page
    index = report_page.Page((reports / "index.html").read_text(encoding="utf-8"))
    assert index.text.index("2026-02-02") < index.text.index("2026-01-02")
    assert "GPU <b>X</b>" in index.text
    for address in index.addresses:
        assert address == "data:," or (reports / address).exists(), address
    device = report_page.Page((reports / "devices" / "gpu-b-x-b.html").read_text(encoding="utf-8"))
    assert "2026-02-02" in device.text
    assert "2026-01-02" not in device.text
    for address in device.addresses:
        assert address == "data:," or (reports / "devices" / address).exists(), address


def test_a_name_in_use_is_rejected_and_nothing_changes(tmp_path: Path) -> None:
    reports = tmp_path / "reports"
    published_runs.publish(save(tmp_path / "a.json"), reports, "mine")
    before = data_of(reports)
    other = save(tmp_path / "b.json", started="2026-05-05T05:05:05Z")
    done = CliRunner().invoke(app, ["publish", str(other), "--reports", str(reports), "--name", "mine"])
    assert done.exit_code == 2
    assert "published data is never rewritten" in done.stderr
    assert data_of(reports) == before
    published_runs.publish(tmp_path / "a.json", reports, "mine")  # the same run again only renews its page
    assert data_of(reports) == before


@pytest.mark.parametrize("name", ["../up", "Up", "a b", "devices", ""])
def test_a_name_must_be_a_plain_folder_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="name must be"):
        published_runs.publish(save(tmp_path / "a.json"), tmp_path / "reports", name)


def test_a_reading_is_on_the_page_and_is_kept(tmp_path: Path) -> None:
    reading = tmp_path / "words.md"
    reading.write_text("First it wins\nhere.\n\nThen it <loses>.\n", encoding="utf-8")
    folder = published_runs.publish(save(tmp_path / "a.json"), tmp_path / "reports", "mine", reading)
    text = report_page.Page((folder / "report.html").read_text(encoding="utf-8")).text
    assert "First it wins here." in text
    assert "Then it <loses>." in text
    assert (folder / "reading.md").read_text(encoding="utf-8") == reading.read_text(encoding="utf-8")


def test_a_file_that_is_no_run_gives_a_one_line_error(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}", encoding="utf-8")
    done = CliRunner().invoke(app, ["publish", str(tmp_path / "x.json"), "--reports", str(tmp_path / "reports")])
    assert done.exit_code == 2
    assert "expected a benchmark JSON" in done.stderr
    assert not (tmp_path / "reports").exists()


def test_a_folder_whose_name_looks_like_a_script_is_linked_as_a_folder(tmp_path: Path) -> None:
    reports = tmp_path / "reports"
    published_runs.publish(save(tmp_path / "a.json"), reports, "mine")
    (reports / "mine").rename(reports / "javascript:alert(1)")
    published_runs.write_index(reports)
    index = report_page.Page((reports / "index.html").read_text(encoding="utf-8"))
    links = [address for address in index.addresses if address.endswith((".html", ".json"))]
    assert "javascript%3Aalert%281%29/report.html" in links
    assert not any(":" in address for address in links)
    assert all((reports / unquote(address)).exists() for address in links)


def test_a_published_file_that_is_no_run_is_left_out_of_the_index_with_its_reason(tmp_path: Path) -> None:
    reports = tmp_path / "reports"
    (reports / "odd").mkdir(parents=True)
    (reports / "odd" / "run.json").write_text("{", encoding="utf-8")
    done = CliRunner().invoke(app, ["publish", str(save(tmp_path / "a.json")), "--reports", str(reports)])
    assert done.exit_code == 0
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"left out of the index: {reports / 'odd' / 'run.json'}: expected JSON")


def test_a_reading_that_is_no_text_publishes_nothing(tmp_path: Path) -> None:
    (tmp_path / "words.md").write_bytes(b"\xff")
    command = ["publish", str(save(tmp_path / "a.json")), "--reports", str(tmp_path / "r")]
    done = CliRunner().invoke(app, [*command, "--reading", str(tmp_path / "words.md")])
    assert (done.exit_code, done.stderr) == (
        2, f"error: {tmp_path / 'words.md'}: expected text in UTF-8, found other bytes at offset 0\n"
    )  # fmt: skip
    assert not (tmp_path / "r").exists()


def test_a_reading_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    run, reading = save(tmp_path / "a.json"), tmp_path / "words.md"
    for command in (
        ["report", str(run), "--out", str(tmp_path / "r")],
        ["publish", str(run), "--reports", str(tmp_path / "r")],
    ):
        done = CliRunner().invoke(app, [*command, "--reading", str(reading)])
        assert (done.exit_code, done.stderr) == (2, f"error: {reading}: No such file or directory\n")
        assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("sample", ["NaN", "Infinity", "0.0", "-1.0"])
def test_a_report_of_impossible_samples_is_refused_in_one_line(tmp_path: Path, sample: str) -> None:
    path = save(tmp_path / "a.json")
    content = json.loads(path.read_text(encoding="utf-8"))
    content["harness"]["records"][0]["timing"]["wall_seconds"][0] = float(sample)
    path.write_text(json.dumps(content), encoding="utf-8")
    done = CliRunner().invoke(app, ["report", str(path), "--out", str(tmp_path / "page.html")])
    assert done.exit_code == 2
    assert done.stderr.startswith(f"error: {path}: not a run: records.0.timing.wall_seconds.0: expected a ")
    assert len(done.stderr.splitlines()) == 1
