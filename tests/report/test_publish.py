"""``harness publish``: a run is added, the index lists it, and existing data stays byte for byte."""

import hashlib
import json
import re
from html import unescape
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
import pytest
import report_page
import synthetic
from typer.testing import CliRunner

from harness.commands.app import app
from harness.core.record import Quality, Record, Run
from harness.core.spec import OperationSpec, QualitySpec
from harness.report.formats import published_runs


def save(path: Path, **changes: object) -> Path:
    run: Run = synthetic.realistic(lengths=(512,), modes=("forward",)).model_copy(update=changes)
    path.write_text(json.dumps({"harness": json.loads(run.model_dump_json())}), encoding="utf-8")
    return path


def data_of(reports: Path) -> dict[str, str]:
    found = [*reports.rglob("*.json"), *reports.rglob("*.jsonl")]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def compared(
    attention: str, seconds: float, error: float | None, length: int = 512, reference: str = "softmax"
) -> list[Record]:
    """A timed training pass of an approximation, and its error at the same setting."""
    rng = np.random.default_rng(len(attention))
    knobs = {"size": 64}
    spec = OperationSpec(attention=attention, seq_len=length, mode="forward_backward")
    records = [synthetic.timed(spec, seconds, 1e6, rng, knobs=knobs, exact_softmax=False)]
    if error is not None:
        errors = {what: [error, error, error] for what in ("output", "grad_q", "grad_k", "grad_v")}
        measured = Quality(reference=reference, errors=errors)
        quality = QualitySpec(attention=attention, seq_len=length, knobs=knobs)
        records.append(synthetic.record(quality, knobs=knobs, quality=measured))
    return records


def exact(seconds: float, length: int = 512, mode: str = "forward_backward") -> Record:
    spec = OperationSpec.model_validate({"attention": "sdpa", "seq_len": length, "mode": mode})
    return synthetic.timed(spec, seconds, 1e6, np.random.default_rng(0), exact_softmax=True)


def publish_records(tmp_path: Path, name: str, records: list[Record], **changes: object) -> None:
    """Add a run to the index, with an empty page, because a page takes longer than the index."""
    folder = tmp_path / "reports" / name
    folder.mkdir(parents=True)
    run = synthetic.run(records, **changes)
    (folder / "run.json").write_text(json.dumps({"harness": json.loads(run.model_dump_json())}), encoding="utf-8")
    (folder / "report.html").write_text("", encoding="utf-8")
    published_runs.write_index(tmp_path / "reports")


def page_of(tmp_path: Path, name: str = "index.html") -> report_page.Page:
    return report_page.Page((tmp_path / "reports" / name).read_text(encoding="utf-8"))


def matrix(tmp_path: Path, name: str = "index.html") -> list[list[str]]:
    """The text of each cell of the matrix, row by row."""
    text = (tmp_path / "reports" / name).read_text(encoding="utf-8")
    rows = re.findall(r"<tr.*?</tr>", text, re.DOTALL)
    cells = [re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL) for row in rows]
    return [[unescape(" ".join(re.sub(r"<[^>]*>", " ", cell).split())) for cell in row] for row in cells]


def test_a_cell_has_both_winners_with_their_errors_and_opens_the_run_there(tmp_path: Path) -> None:
    records = [
        exact(0.1),
        exact(0.2, length=1024, mode="forward"),
        *compared("close", 0.04, 0.08),
        *compared("closer", 0.05, 0.01),
        *compared("wrong", 0.001, 0.5),
        *compared("unknown", 0.001, None),
        *compared("own", 0.001, 1e-7, reference="own"),
        *compared("estimate", 0.001, 0.05, reference="own"),
    ]
    publish_records(tmp_path, "mine", records)
    page = page_of(tmp_path)
    heading, row = matrix(tmp_path)
    assert heading == ["Device and run", "512", "1,024"]
    assert "standard profile" in row[0]
    assert "forward + backward" in row[0]
    assert "sdpa" in row[1]
    assert re.search(r"close.* [\d.]+ ms, error 8\.00% [\d.]+ times faster", row[1]), row[1]
    for left_out in ("closer", "wrong", "unknown", "own", "estimate"):
        assert left_out not in row[1], left_out
    assert "no other has an error against softmax" in row[2]
    assert row[2].endswith("forward")  # the only pass at this length
    assert page.text.count("compared only with its own definition") == 1
    links = [urlsplit(address) for address in page.addresses if "#" in address]
    assert [link.path for link in links] == ["mine/report.html"] * 2
    assert parse_qs(links[0].fragment) == {
        "pass": ["training"], "length": ["512"], "inputs": ["sharp"], "allowed": ["0.1"]
    }  # fmt: skip
    assert parse_qs(links[1].fragment)["pass"] == ["forward"]
    (sentence,) = [block.text for block in page.blocks if block.tag == "p" and "fastest exact attention" in block.text]
    assert "with an error of" in sentence.split(";")[0]
    assert "with an error of 8.00%" in sentence.split(";")[1]
    assert "times faster" in sentence


def test_without_measured_errors_no_approximation_is_called_fast(tmp_path: Path) -> None:
    publish_records(tmp_path, "mine", [exact(0.1), *compared("unknown", 0.001, None)])
    page = page_of(tmp_path)
    assert "no other has an error against softmax" in matrix(tmp_path)[1][1]
    assert "no other method that was timed there has a measured error against softmax" in page.text
    assert "unknown" not in page.text


def test_the_matrix_has_the_newest_run_of_each_profile_on_each_device(tmp_path: Path) -> None:
    machine = {"cuda_device": "GPU <b>X</b>"}
    publish_records(tmp_path, "old", [exact(0.1)], started="2026-01-01T00:00:00Z")
    publish_records(tmp_path, "new", [exact(0.2)], started="2026-02-01T00:00:00Z")
    publish_records(tmp_path, "quick", [exact(0.3)], started="2026-01-03T00:00:00Z", profile="quick")
    publish_records(tmp_path, "other", [exact(0.4, length=64)], started="2026-01-04T00:00:00Z", machine=machine)
    publish_records(tmp_path, "trained", [synthetic.task("yoso", [0.5])], started="2026-03-01T00:00:00Z")
    rows = matrix(tmp_path)
    assert rows[0] == ["Device and run", "64", "512"]
    assert [row[0].split(";")[0] for row in rows[1:]] == [
        "Example CPU @ 2.0 GHz standard profile, 2026-02-01",
        "Example CPU @ 2.0 GHz quick profile, 2026-01-03",
        "GPU <b>X</b> standard profile, 2026-01-04",
    ]
    device = matrix(tmp_path, "devices/gpu-b-x-b.html")
    assert len(device) == 2
    assert device[0] == ["Device and run", "64"]
    addresses = page_of(tmp_path, "devices/gpu-b-x-b.html").addresses
    assert any(address.startswith("../other/report.html#") for address in addresses)


def test_texts_of_a_run_are_no_markup_and_stay_in_their_part_of_an_address(tmp_path: Path) -> None:
    evil = "<img src=x>&#x27;"
    records = [exact(0.1), *compared(f"{evil}\"'", 0.01, 0.05)]
    publish_records(tmp_path, "mine", records, profile=evil, machine={"cpu": evil})
    text = (tmp_path / "reports" / "index.html").read_text(encoding="utf-8")
    assert "<img" not in text
    assert f"{evil}\"'" in report_page.Page(text).text


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
        assert address == "data:," or (reports / urlsplit(address).path).exists(), address
    device = report_page.Page((reports / "devices" / "gpu-b-x-b.html").read_text(encoding="utf-8"))
    assert "2026-02-02" in device.text
    assert "2026-01-02" not in device.text
    for address in device.addresses:
        assert address == "data:," or (reports / "devices" / urlsplit(address).path).exists(), address


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
    links = [address.partition("#")[0] for address in index.addresses if address != "data:,"]
    links = [address for address in links if "devices/" not in address]
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


def test_a_log_beside_the_json_of_its_run_is_no_second_run(tmp_path: Path) -> None:
    folder = tmp_path / "trained"
    folder.mkdir()
    save(folder / "accuracy.json")
    run = Run.model_validate(json.loads((folder / "accuracy.json").read_text())["harness"])
    lines = [run.model_copy(update={"records": []}).model_dump_json(), *(one.model_dump_json() for one in run.records)]
    (folder / "accuracy.log.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert [found.data for found in published_runs.published_runs(tmp_path)] == ["trained/accuracy.json"]
    (folder / "accuracy.json").unlink()
    assert [found.data for found in published_runs.published_runs(tmp_path)] == ["trained/accuracy.log.jsonl"]


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


def test_a_log_is_published_as_pytest_benchmarks_json_with_the_machine_of_the_run(tmp_path: Path) -> None:
    run: Run = synthetic.realistic(lengths=(512,), modes=("forward",))
    lines = [run.model_copy(update={"records": []}).model_dump_json(), *(one.model_dump_json() for one in run.records)]
    log = tmp_path / "interrupted.log.jsonl"
    log.write_text("\n".join(lines) + "\n", encoding="utf-8")
    command = ["publish", str(log), "--reports", str(tmp_path / "reports"), "--name", "kept"]
    for _ in range(2):  # the second time, the same data is there already
        assert CliRunner().invoke(app, command).exit_code == 0
    written = json.loads((tmp_path / "reports" / "kept" / "run.json").read_text())
    assert Run.model_validate(written["harness"]) == run
    timed = [record for record in run.records if record.timing is not None]
    assert [bench["params"]["case"] for bench in written["benchmarks"]] == [record.case_id for record in timed]
    assert written["machine_info"]["cpu"]["brand_raw"] == run.machine["cpu"]
    assert written["datetime"] == run.started
