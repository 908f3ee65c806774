import json
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import gate_runs
import git_project
import pytest
import synthetic
from gate_runs import SPECS
from typer.testing import CliRunner

from harness.commands.app import app
from harness.core.spec import OperationSpec
from harness.gate.judge import case_rows, judgement, outputs
from harness.gate.judge.thresholds import Settings, SettingsError, load, of_base

NASTY = "no `luck` | <script>alert(1)</script> @everyone [x](http://y) \x00\n# heading"


@pytest.fixture(scope="module")
def judged():
    base, head = gate_runs.pair(slower={SPECS[0]: 1.3, SPECS[1]: 0.8}, larger={SPECS[2]: 1.1})
    head.records.append(synthetic.record(SPECS[3].model_copy(update={"seed": 7}), "crashed", reasons=[NASTY]))
    return judgement.judge(base, head, Settings())


def test_markdown_has_one_row_per_change_and_escapes_reasons(judged):
    text = outputs.markdown(judged)
    assert text.startswith(outputs.MARKER)
    rows = [line for line in text.splitlines() if line.startswith("| operation")]
    assert [row.split(" | ")[4] for row in rows[:4]] == [
        "regression: SLOWER", "pass: SAME<br>regression: LARGER", "regression: NEWLY FAILING", "pass: FASTER",
    ]  # fmt: skip
    assert re.search(r" \| time 10\.\d ms -&#62; 1[23]\.\d ms \| \+(29|30)\.\d% \\\[", rows[0])
    assert "<script>" not in text
    assert "@everyone" not in text
    assert "\n#" not in text.replace("\n### Gate", "")
    assert all(row.replace("\\|", "").count("|") == len(outputs.HEADINGS) + 1 for row in rows[:4])


def test_an_unbounded_interval_ends_in_the_word_any(judged):
    slower = next(finding for finding in judged.findings if finding.verdict == "SLOWER")
    estimate = slower.estimate
    assert case_rows.interval(slower, estimate.low, 800.0).endswith("%, any]")
    assert case_rows.interval(slower, estimate.low, estimate.high).endswith("%]")


def test_junit_is_xml_with_the_right_counts(judged):
    suite = ElementTree.fromstring(outputs.junit(judged).encode())
    assert (suite.get("failures"), suite.get("errors")) == ("3", "0")
    assert len(suite.findall("testcase")) == int(suite.get("tests")) == len(judged.findings)
    assert {failure.get("type") for failure in suite.iter("failure")} == {
        "SLOWER", "LARGER", "NEWLY FAILING",
    }  # fmt: skip


def test_json_has_every_finding(judged):
    found = json.loads(outputs.as_json(judged))
    assert found["exit_code"] == 1
    assert len(found["findings"]) == len(judged.findings)
    slower = next(row for row in found["findings"] if row["verdict"] == "SLOWER")
    low, high = slower["interval"]
    assert low < slower["effect, above 0 where worse"] < high


def test_an_inconclusive_judgement_says_so_in_every_output(capsys):
    finding = judgement.invalid("too few samples", "a case")
    judged = judgement.Judgement("base", "head", (finding,), ())
    assert judged.exit_code == 2
    found = json.loads(outputs.as_json(judged))
    assert (found["exit_code"], found["outcome"]) == (2, "INCONCLUSIVE (1 INVALID)")
    assert [(row["verdict"], row["weight"]) for row in found["findings"]] == [("INVALID", "inconclusive")]
    assert found["result"] == "invalid"
    sentence = "Invalid: 1 of 1 case could not be compared between base and head."
    assert f"### Gate: INVALID\n\n{sentence}\n" in outputs.markdown(judged)
    assert ElementTree.fromstring(outputs.junit(judged).encode()).get("errors") == "1"
    outputs.print_judgement(judged)
    assert capsys.readouterr().out.startswith(f"{sentence}\n")


def test_the_guide_lists_the_keys_of_the_json(judged):
    guide = (Path(__file__).parents[2] / "docs" / "gating.md").read_text()
    found = json.loads(outputs.as_json(judged))
    for key in {*found, *(key for row in found["findings"] for key in row)}:
        assert f"`{key}`" in guide


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text("")

    def write(name, run):
        path = tmp_path / name
        path.write_text(json.dumps({"benchmarks": [], "harness": run.model_dump(mode="json")}))
        return path

    return write


def gate(*arguments):
    return CliRunner().invoke(app, ["gate", *map(str, arguments)])


def test_the_command_judges_files_and_writes_all_outputs(files, tmp_path):
    base, head = gate_runs.pair(slower={SPECS[0]: 1.3})
    paths = files("base.json", base), files("head.json", head)
    wanted = ["--markdown", "o/gate.md", "--junit", "o/gate.xml", "--json", "o/gate.json"]
    done = gate(*paths, *wanted)
    assert done.exit_code == 1
    assert "SLOWER" in done.stdout
    assert SPECS[0].case_id in done.stdout
    assert json.loads((tmp_path / "o" / "gate.json").read_text())["exit_code"] == 1
    assert (tmp_path / "o" / "gate.md").read_text().startswith(outputs.MARKER)
    assert gate(paths[0], paths[0]).exit_code == 0


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Seven runs of one process each of base and of head, whose first case is a fifth slower."""
    for number in range(7):
        runs = gate_runs.pair(seed=number, rounds=1, session=None, slower={SPECS[0]: 1.2})
        for name, run in zip(("base", "head"), runs, strict=True):
            (tmp_path / name).mkdir(exist_ok=True)
            found = run.model_copy(update={"commit": name})
            text = json.dumps({"benchmarks": [], "harness": found.model_dump(mode="json")})
            (tmp_path / name / f"{number}.json").write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_runs_of_a_folder_are_rounds_with_their_own_spread(folders):
    done = gate("base/0.json", "head/0.json", "--json", "one.json")
    assert done.exit_code == 2  # one process does not show how much the next differs
    done = gate("base", "head", "--json", "all.json")
    assert done.exit_code == 1
    found = json.loads((folders / "all.json").read_text())["findings"]
    assert {row["case"] for row in found if row["verdict"] == "SLOWER"} == {SPECS[0].case_id}
    assert {row["verdict"] for row in found if row["case"] != SPECS[0].case_id} == {"SAME"}
    assert gate("base", "base").exit_code == 0
    assert gate("base", "head/0.json").exit_code == 2


def findings(path):
    return json.loads(path.read_text())["findings"]


def rewrite(path, change):
    run = json.loads(path.read_text())
    change(run["harness"])
    path.write_text(json.dumps(run))


def test_a_round_that_failed_in_base_or_did_not_begin_does_not_hide_a_regression(folders):
    slow = SPECS[0].case_id

    def fail(reason):
        def change(run):
            (record,) = (record for record in run["records"] if record["case_id"] == slow)
            record |= {"status": "timeout", "reasons": [reason], "timing": None, "memory": None}

        return change

    rewrite(folders / "base" / "5.json", fail("not begun: the run's 5 s were over"))
    rewrite(folders / "head" / "5.json", fail("not begun: the run's 5 s were over"))
    rewrite(folders / "base" / "4.json", fail("after 5 s"))
    assert gate("base", "head", "--json", "found.json").exit_code == 1
    found = [row for row in findings(folders / "found.json") if row["case"] == slow]
    assert {row["metric"]: row["verdict"] for row in found}["time"] == "SLOWER"
    rewrite(folders / "head" / "4.json", fail("after 5 s"))
    gate("base", "head", "--json", "found.json")
    found = [row for row in findings(folders / "found.json") if row["case"] == slow]
    assert [row["verdict"] for row in found] == ["STILL TIMEOUT"]


def test_the_interval_is_finite_if_only_one_peak_differs(folders):
    def change(run):
        run["records"][0]["memory"]["peak_bytes"] = 1_020_000

    rewrite(folders / "head" / "0.json", change)
    done = gate("base", "head", "--json", "found.json")
    assert done.exit_code == 1
    assert done.exception is None or isinstance(done.exception, SystemExit)
    text = (folders / "found.json").read_text()
    assert "Infinity" not in text
    assert max(row["interval"][1] for row in json.loads(text)["findings"] if row.get("interval")) < 1


def test_the_same_run_twice_in_a_folder_is_refused(folders):
    (folders / "base" / "7.json").write_text((folders / "base" / "2.json").read_text())
    assert gate("base", "head", "--json", "found.json").exit_code == 2
    reason = json.loads((folders / "found.json").read_text())["findings"][0]["reason"]
    assert "2.json and 7.json hold the same" in reason


def test_a_folder_of_several_commits_or_machines_or_without_runs_is_refused(folders, files):
    base = gate_runs.pair(rounds=1)[0]
    other = base.model_copy(update={"commit": "other"})
    for run, words in (
        (other, "commit: 0.json has base, 9.json other"),
        (
            base.model_copy(update={"commit": "base", "machine": base.machine | {"torch": "3"}}),
            "torch: 0.json has 2.13.0",
        ),
    ):
        files("base/9.json", run.model_copy(update={"started": "2999"}))
        done = gate("base", "head", "--json", "found.json")
        assert done.exit_code == 2
        assert words in json.loads((folders / "found.json").read_text())["findings"][0]["reason"]
    assert gate("base", "head", "--anyway").exit_code == 1
    (folders / "empty").mkdir()
    assert gate("empty", "head", "--json", "found.json").exit_code == 2
    assert "found none" in json.loads((folders / "found.json").read_text())["findings"][0]["reason"]


def test_runs_of_different_machines_are_compared_only_with_anyway(files):
    base, head = gate_runs.pair()
    paths = files("a.json", base), files("b.json", head.model_copy(update={"machine": head.machine | {"torch": "3"}}))
    done = gate(*paths)
    assert done.exit_code == 2
    assert "torch: base has 2.13.0, head 3" in done.stdout
    done = gate(*paths, "--anyway")
    assert done.exit_code == 0
    assert "difference between the runs: torch" in done.stdout


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "cut off"),
        ('{"harness": {"schema_ver', "cut off"),
        ("\x00\x01", "cut off"),
        ("[]", "'harness' block"),
        ('{"benchmarks": []}', "'harness' block"),
        ('{"harness": {"schema_version": 0}}', "expected schema version 1, found 0"),
        ('{"harness": {"schema_version": 2}}', "expected schema version 1, found 2"),
        ('{"harness": {"schema_version": 1, "records": 3}}', "not a run"),
    ],
)
def test_bad_input_is_an_invalid_verdict_and_never_a_traceback(files, tmp_path, text, words):
    good = files("good.json", gate_runs.pair()[0])
    (tmp_path / "bad.json").write_text(text)
    for order in ((good, "bad.json"), ("bad.json", good)):
        done = gate(*order, "--json", "found.json")
        assert done.exit_code == 2
        assert not isinstance(done.exception, Exception)
        found = json.loads((tmp_path / "found.json").read_text())
        assert [row["verdict"] for row in found["findings"]] == ["INVALID"]
        assert words in found["findings"][0]["reason"]
        (line,) = done.stderr.splitlines()
        assert line.startswith("error: bad.json: ")
        assert words in line
    assert gate(good, "nope.json").exit_code == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[tool.harness.gate]\ntime = { flor = 1 }", "tool.harness.gate.time.Threshold.flor"),
        ("[tool.harness.gate]\nfalse_discovery_rate = 2", "false_discovery_rate: Input should be less than 0.5, got 2"),
        ("[tool.harness.gate]\nspeed = 3", "tool.harness.gate.speed"),
        ("[tool.harness", "not TOML"),
        ("tool = 3", "tool.harness.gate"),
    ],
)
def test_an_error_in_the_thresholds_names_the_key(files, tmp_path, text, words):
    good = files("good.json", gate_runs.pair()[0])
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(SettingsError) as error:
        load(tmp_path)
    assert words in str(error.value)
    assert gate(good, good).exit_code == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a = " + "9" * 5000, "not TOML: Exceeds the limit"),
        ("a = " + "[" * 100_000, "not TOML: "),
        ("[tool.harness.gate]\ntime = { floor = inf }", "floor: Input should be less than or equal to 1000000000"),
        ("[tool.harness.gate]\ntime = { floor = nan }", "floor: "),
        ("[tool.harness.gate]\n'a\u2028b' = '" + "x" * 5000 + "'", "tool.harness.gate.a b: Extra inputs"),
    ],
    ids=["digits", "depth", "inf", "nan", "long"],
)
def test_thresholds_of_an_absurd_file_are_refused_in_one_short_line(tmp_path, text, words):
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(SettingsError) as error:
        load(tmp_path)
    assert words in str(error.value)
    assert len(str(error.value)) < 600
    assert len(str(error.value).splitlines()) == 1


def test_thresholds_that_are_not_text_are_refused_with_their_place(tmp_path):
    (tmp_path / "pyproject.toml").write_bytes(b"[tool.harness.gate]\n\xe2")
    with pytest.raises(SettingsError, match=r"expected TOML, found other bytes than UTF-8 at offset 20$"):
        load(tmp_path)


LOOSER = "[tool.harness.gate]\ntime = { floor = 5.0 }\nmemory = false\n"
STRICTER = "[tool.harness.gate]\ntime = { floor = 0.05 }\n"


def test_a_commit_does_not_loosen_its_own_thresholds_and_the_change_is_said(files, tmp_path):
    git_project.new(tmp_path)
    commits = [git_project.commit(tmp_path, pyproject_dot_toml=text) for text in (STRICTER, LOOSER)]
    base, head = gate_runs.pair(slower={SPECS[0]: 2.0}, larger={SPECS[1]: 2.0})
    paths = [
        files(f"{number}.json", run.model_copy(update={"commit": f"{commit}+dirty"}))
        for number, (run, commit) in enumerate(zip((base, head), commits, strict=True))
    ]
    done = gate(*paths, "--json", "found.json", "--markdown", "found.md")
    assert done.exit_code == 1
    found = json.loads((tmp_path / "found.json").read_text())
    assert {row["verdict"] for row in found["findings"] if row["weight"] == "regression"} == {"SLOWER", "LARGER"}
    assert found["notes"] == [
        "head changes a threshold, and base's applies: time: base has floor 0.05, head floor 5",
        "head changes a threshold, and base's applies: memory: base has the default, head no gate",
    ]
    assert "time: base has floor 0.05, head floor 5" in done.stdout.replace("\n", "")
    assert "time: base has floor 0.05, head floor 5" in (tmp_path / "found.md").read_text()
    assert gate(paths[1], paths[1], "--json", "found.json").exit_code == 0
    assert json.loads((tmp_path / "found.json").read_text())["notes"] == []


def test_thresholds_of_the_folder_are_used_with_a_note_where_git_lacks_the_commit(files, tmp_path):
    (tmp_path / "pyproject.toml").write_text(LOOSER)
    paths = [files(f"{number}.json", run) for number, run in enumerate(gate_runs.pair(slower={SPECS[0]: 1.3}))]
    done = gate(*paths, "--json", "found.json")
    assert done.exit_code == 0
    (note,) = json.loads((tmp_path / "found.json").read_text())["notes"]
    assert f"the thresholds are those of {tmp_path}: base's commit 0123456789abcdef+dirty" in note


def test_patterns_and_their_order_are_thresholds_too():
    def settings(*patterns):
        return Settings.model_validate({"cases": [{"pattern": name, "time": value} for name, value in patterns]})

    loose, strict = ("a*", False), ("*b", {"floor": 0.1})
    assert of_base(settings(strict), settings(strict)) == (settings(strict), ())
    (note,) = of_base(settings(strict), settings(loose, strict))[1]
    assert note.endswith("time of cases a*: base has the default, head no gate")
    (note,) = of_base(settings(loose, strict), settings(strict, loose))[1]
    assert note.endswith("the order of its patterns of cases")


@pytest.mark.parametrize("unwritable", ["--markdown", "--junit", "--json"])
def test_a_file_that_cannot_be_written_does_not_lose_the_others(files, tmp_path, unwritable):
    paths = [files(f"{number}.json", run) for number, run in enumerate(gate_runs.pair(slower={SPECS[0]: 1.3}))]
    (tmp_path / "a file").write_text("")
    names = {option: str(tmp_path / option.strip("-")) for option in ("--markdown", "--junit", "--json")}
    names[unwritable] = str(tmp_path / "a file" / "inside")
    done = gate(*paths, *(word for pair in names.items() for word in pair))
    assert done.exit_code == 2
    assert "SLOWER" in done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: cannot be written: ")
    assert "a file" in line
    assert sum(Path(name).exists() for name in names.values()) == 2


def test_names_from_outside_are_no_markup_in_any_output(files, tmp_path):
    base, head = gate_runs.pair(rounds=1)
    nasty = "a`b`\n# heading\u2028| x | [y](javascript:z) \x1b[31m &lt;"
    paths = [
        files(f"{number}.json", run.model_copy(update={"commit": nasty})) for number, run in enumerate((base, head))
    ]
    head.records[0].case_id = nasty
    paths.append(files("3.json", head))
    for pair in (paths[:2], paths[1:]):
        done = gate(*pair, "--markdown", "g.md", "--json", "g.json", "--junit", "g.xml")
        text = (tmp_path / "g.md").read_text()
        assert not any(line.startswith("#") for line in text.splitlines()[2:])
        assert "\x1b" not in text + done.output
        assert "a\\`b\\` \\# heading" in text
        ElementTree.fromstring((tmp_path / "g.xml").read_bytes())


def test_a_comment_is_never_longer_than_github_allows():
    specs = [OperationSpec(attention="x" * 200, seq_len=n) for n in range(1, 1500)]
    failing = synthetic.run([synthetic.record(spec, "crashed", reasons=["`" * 3000]) for spec in specs])
    good = synthetic.run([synthetic.record(spec) for spec in specs])
    judged = judgement.judge(good, failing, Settings())
    judged = replace(judged, base="`" * 10**5, differences=("\u4e2d" * 900,) * 900, notes=("#" * 900,) * 900)
    text = outputs.markdown(judged)
    assert 40_000 < len(text.encode()) <= outputs.COMMENT_BYTES
    (sentence,) = (line for line in text.splitlines() if line.startswith("The table is shortened"))
    rows = sum(line.startswith("| operation") for line in text.splitlines())
    assert sentence.endswith(f"it leaves out {1499 - rows:,} regressions.")
    assert re.search(r"^- and \d+ more$", text, re.MULTILINE)


def test_thresholds_are_read_from_the_nearest_parent_folder(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.harness.gate]\nmemory = { floor = 0.3 }\ntime = false")
    (tmp_path / "below").mkdir()
    found = load(tmp_path / "below")
    assert found.threshold("memory", "x").floor == 0.3
    assert found.threshold("time", "x") is None
