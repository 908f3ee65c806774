import json
import re
from pathlib import Path

import gate_runs
import git_project
import numpy as np
import pytest
import report_page
import synthetic
from gate_runs import SPECS
from typer.testing import CliRunner

from harness.commands.app import app
from harness.core.record import Quality
from harness.core.spec import QualitySpec
from harness.core.store import load
from harness.gate.history import history_branch, history_page, run_history, trends
from harness.gate.history.run_history import HistoryError
from harness.gate.history.sparkline import HEIGHT, WIDTH, sparkline
from harness.gate.history.trends import Point
from harness.statistics.changepoints import level_changes


def run_of(number, scale=1.0, machine="A CPU"):
    base, _ = gate_runs.pair(number, rounds=1, session=None, specs=SPECS[:1])
    record = base.records[0]
    record.timing.wall_seconds = [scale * value for value in record.timing.wall_seconds]
    started = f"2026-01-{1 + number:02}T00:00:00+00:00"
    changes = {"commit": f"{number:040x}", "started": started, "machine": {"cpu": machine, "torch": str(number)}}
    return base.model_copy(update=changes)


def test_a_store_is_by_machine_and_commit_and_append_only(tmp_path):
    first = run_history.add(run_of(1), tmp_path)
    assert first.parent.name.startswith("a-cpu-")
    assert first.name == f"20260101T000000-{1:040x}.json".replace("20260101", "20260102")
    assert run_history.add(run_of(1), tmp_path) == first
    assert load(first) == run_of(1)
    with pytest.raises(HistoryError, match="append-only"):
        run_history.add(run_of(1, scale=2.0), tmp_path)
    other = run_history.add(run_of(2, machine="Another"), tmp_path)
    assert other.parent != first.parent
    assert run_history.add(run_of(3), tmp_path).parent == first.parent  # with another torch it is the same machine
    assert len(list(run_history.read(tmp_path))) == 3
    with pytest.raises(HistoryError, match="without a commit"):
        run_history.add(run_of(4).model_copy(update={"commit": None}), tmp_path)
    with pytest.raises(HistoryError, match="expected a folder of runs"):
        list(run_history.read(tmp_path / "nope"))


def noisy(levels, each=12, noise=0.01, seed=0):
    rng = np.random.default_rng(seed)
    return np.repeat(levels, each) * np.exp(noise * rng.standard_normal(len(levels) * each))


@pytest.mark.parametrize("seed", range(20))
def test_a_change_of_level_is_found_at_its_place_and_a_constant_series_has_none(seed):
    (change,) = level_changes(noisy([1.0, 1.1], seed=seed))
    assert abs(change.index - 12) <= 1
    assert change.ratio == pytest.approx(1.1, rel=0.02)
    assert level_changes(noisy([1.0], each=30, seed=seed)) == []
    assert len(level_changes(noisy([1.0, 1.2, 1.0], seed=seed))) == 2


def test_a_short_series_and_an_outlier_have_no_change_of_level():
    assert level_changes([1.0, 2.0, 2.0]) == []
    values = noisy([1.0])
    values[5] = 1.6
    assert level_changes(values) == []
    assert level_changes([5.0] * 10) == []


EVIL = "<img src=x onerror=alert(1)>\"'"


def test_the_page_lists_a_regression_with_both_times_its_interval_its_error_and_its_run(tmp_path):
    values = noisy([0.010, 0.013])
    file = tmp_path / "store" / EVIL.replace("/", "") / "javascript:run.json"
    points = [
        Point(f"2026-01-{n + 1:02}", f"{n:040x}", float(value), error=EVIL, paths=(file,))
        for n, value in enumerate(values)
    ]
    series = {("machine", f"operation/{EVIL}", "time"): points}
    (change,) = history_page.write(series, tmp_path / "h.html")
    assert change.is_regression
    assert change.low < np.log(1.3) < change.high
    text = (tmp_path / "h.html").read_text()
    assert "<img" not in text
    assert "<script" not in text
    page = report_page.Page(text)
    (line,) = [block.text for block in page.blocks if block.tag == "li" and "time:" in block.text]
    assert line.startswith(f"operation/{EVIL} time:")
    assert "10.0 ms \N{RIGHTWARDS ARROW} 13.0 ms" in page.text
    assert EVIL in page.text.split("13.0 ms")[1].split("First seen at")[0]  # the error, in the same sentence
    assert f"+{np.expm1(np.log(change.after / change.before)):.1%} [" in line
    addresses = [address for address in page.addresses if address != "data:,"]
    assert len(addresses) == 2 + len(points)  # the commits on both sides of the change, and the list of all commits
    assert all(address.startswith("store/") and ":" not in address for address in addresses)


def test_a_name_from_right_to_left_leaves_the_words_around_it_in_their_order(tmp_path):
    override, isolated = "\u202eemag", "\u2068[^\u2068\u2069]*\u2069"
    points = [Point(f"2026-01-{n + 1:02}", f"{n:040x}", float(value)) for n, value in enumerate(noisy([0.010, 0.013]))]
    series = {(f"{override} CPU", f"operation/{override}-b1-h8-d64-n128-fp32-fwd-cpu", "time"): points}
    assert len(history_page.write(series, tmp_path / "h.html")) == 1
    text = (tmp_path / "h.html").read_text(encoding="utf-8")
    assert text.count(override) >= 4
    assert override not in re.sub(isolated, "", text)


def test_a_level_that_changes_for_the_better_is_no_regression(tmp_path):
    points = [Point(f"day {n}", f"{n:040x}", float(value)) for n, value in enumerate(noisy([1.3, 1.0]))]
    (change,) = history_page.write({("machine", "operation/x", "time"): points}, tmp_path / "h.html")
    assert not change.is_regression
    text = (tmp_path / "h.html").read_text()
    assert "No level changed for the worse." in text
    assert text.index("Improvements") < text.index("operation/x")
    (change,) = trends.changes(("machine", "task/x", "accuracy"), points)
    assert change.is_regression


def test_a_change_whose_interval_contains_0_is_no_regression(tmp_path):
    values = [1.0, 1.01, 0.99, 1.0, 1.02, 1.0, 1.2, 1.6]
    points = [Point(f"day {n}", f"{n:040x}", value) for n, value in enumerate(values)]
    (change,) = history_page.write({("machine", "operation/x", "time"): points}, tmp_path / "h.html")
    assert change.low < 0 < change.high
    assert not change.is_clear
    assert not change.is_regression
    assert not change.is_improvement
    text = (tmp_path / "h.html").read_text()
    assert "No level changed clearly for the worse." in text
    assert "1 case, 0 regressions" in text
    assert 'class="regression"' not in text
    assert 'class="worse"' not in text
    assert text.index("Not clear, because") < text.index("<b><bdi>operation/x")


def test_rounds_of_one_commit_are_one_point_with_an_interval_between_processes(tmp_path):
    for number in range(3):
        repeat = run_of(number, scale=1.0 + 0.1 * number).model_copy(
            update={"commit": "a" * 40, "machine": {"cpu": "A CPU", "load_1min": number}}
        )
        run_history.add(repeat, tmp_path)
    others = {"commit": "b" * 40, "machine": {"cpu": "A CPU", "torch": "2"}}
    for number, changes in ((4, others), (5, others | {"machine": {"cpu": "A CPU", "torch": "3"}})):
        run_history.add(run_of(number).model_copy(update=changes), tmp_path)
    for number in (6, 7):
        changed = {"commit": f"{'c' * 40}+dirty", "machine": {"cpu": "A CPU"}}
        run_history.add(run_of(number).model_copy(update=changed), tmp_path)
    points = next(points for key, points in trends.series(run_history.read(tmp_path)).items() if key[2] == "time")
    assert [point.processes for point in points] == [3, 1, 1, 1, 1]  # another torch or a changed tree is no round
    rounds, *alone = points
    smallest = [min(run_of(n, scale=1.0 + 0.1 * n).records[0].timing.wall_seconds) for n in range(3)]
    assert rounds.value == pytest.approx(np.exp(np.mean(np.log(smallest))))
    assert rounds.low < min(smallest)
    assert rounds.high > max(smallest)
    assert len(rounds.paths) == 3
    assert all(point.low is None and point.high is None for point in alone)


def test_a_disturbed_time_says_nothing_about_its_commit(tmp_path):
    run = run_of(0)
    records = [
        record.model_copy(
            update={"timing": record.timing.model_copy(update={"disturbed": True, "disturbance": "busy"})}
        )
        for record in run.records
    ]
    run_history.add(run.model_copy(update={"records": records}), tmp_path)
    metrics = {key[2] for key in trends.series(run_history.read(tmp_path))}
    assert "memory" in metrics
    assert "time" not in metrics


def test_a_run_that_is_stored_twice_is_one_round(tmp_path):
    first = run_history.add(run_of(1), tmp_path)
    first.with_name("copy.json").write_text(first.read_text())
    points = next(iter(trends.series(run_history.read(tmp_path)).values()))
    assert [point.processes for point in points] == [1]


def test_a_time_has_the_error_that_the_same_run_measured_at_its_setting(tmp_path):
    run, spec = run_of(1), SPECS[0]
    quality = QualitySpec(attention=spec.attention, seq_len=spec.seq_len)
    measured = Quality(reference="softmax", errors={"output": [0.25, 0.27]})
    with_error = run.model_copy(update={"records": [*run.records, synthetic.record(quality, quality=measured)]})
    run_history.add(with_error, tmp_path)
    run_history.add(run_of(2), tmp_path)
    series = trends.series(run_history.read(tmp_path))
    times = next(points for key, points in series.items() if key[2] == "time")
    assert [point.error for point in times] == ["error 26.0%", "error not measured"]
    history_page.write(series, tmp_path / "h.html")
    assert report_page.Page((tmp_path / "h.html").read_text()).text.count("error not measured") >= 1


def test_a_commit_has_one_place_in_every_drawing(tmp_path):
    points = [Point(f"day {n}", f"{n:040x}", 1.0) for n in range(4)]
    places = [point.place for point in points]
    whole, part = sparkline(points, [], places), sparkline(points[1:3], [], places)
    assert [mark.x for mark in part.marks] == [mark.x for mark in whole.marks[1:3]]
    series = {("machine", "operation/x", "time"): points[:2], ("machine", "operation/y", "time"): points}
    assert history_page.write(series, tmp_path / "h.html") == []
    text = report_page.Page((tmp_path / "h.html").read_text()).text
    assert "No level can be judged yet. 2 of the series have fewer than 5 commits" in text


@pytest.mark.parametrize("values", [[1.0], [5.0] * 4, [0.0, 0.0], [0.0, 3.0], [1e-3, 2e-3, 1.5e-3]])
def test_a_drawing_stays_inside_its_frame_and_its_axis_has_two_ends(values):
    points = [Point(f"day {n}", "c", value, low=0.9 * value, high=1.1 * value) for n, value in enumerate(values)]
    drawing = sparkline(points, [], [point.place for point in points])
    assert drawing.low < drawing.high
    for mark in drawing.marks:
        assert 0 <= mark.x <= WIDTH
        assert 0 <= mark.top <= mark.y <= mark.bottom <= HEIGHT


@pytest.fixture
def clones(tmp_path):
    """Two clones of one bare repository, like those of two machines."""
    origin = tmp_path / "origin.git"
    origin.mkdir()
    git_project.git(origin, "init", "--quiet", "--bare", "--initial-branch=main")
    first = git_project.new(tmp_path / "one")
    git_project.git(first, "remote", "add", "origin", str(origin))
    git_project.commit(first, code_dot_py="x = 1")
    git_project.git(first, "push", "--quiet", "origin", "main")
    git_project.git(tmp_path, "clone", "--quiet", str(origin), "two")
    for name, value in (("user.name", "Test"), ("user.email", "test@localhost")):
        git_project.git(tmp_path / "two", "config", name, value)
    return first, tmp_path / "two"


def call(monkeypatch, folder, *arguments):
    monkeypatch.chdir(folder)
    return CliRunner().invoke(app, ["history", *map(str, arguments)])


def saved(folder, run):
    path = Path(folder) / f"{run.commit[-3:]}.json"
    path.write_text(json.dumps({"benchmarks": [], "harness": run.model_dump(mode="json")}))
    return path


def test_two_machines_push_and_one_pulls(clones, tmp_path, monkeypatch):
    one, two = clones
    assert call(monkeypatch, one, "push", saved(tmp_path, run_of(1))).exit_code == 0
    done = call(monkeypatch, two, "push", saved(tmp_path, run_of(2)), saved(tmp_path, run_of(3, machine="Another")))
    assert done.exit_code == 0, done.output
    assert call(monkeypatch, two, "push", tmp_path / "002.json").exit_code == 0  # again: nothing to do
    done = call(monkeypatch, one, "pull", "--store", tmp_path / "store")
    assert done.stdout.startswith("3 new runs")
    assert call(monkeypatch, one, "pull", "--store", tmp_path / "store").stdout.startswith("0 new runs")
    assert {stored.run.commit[-1] for stored in run_history.read(tmp_path / "store")} == {"1", "2", "3"}
    # The branch has only the runs, the checkouts are unchanged, and no worktree or ref is left behind.
    assert git_project.git(one, "ls-tree", "--name-only", "FETCH_HEAD").splitlines()[0] == "README.md"
    assert "code.py" not in git_project.git(one, "ls-tree", "-r", "--name-only", "FETCH_HEAD")
    for clone in clones:
        assert git_project.git(clone, "status", "--porcelain") == ""
        assert len(git_project.git(clone, "worktree", "list").splitlines()) == 1
        assert git_project.git(clone, "for-each-ref", "--format=%(refname)", "refs/heads") == "refs/heads/main"


def test_an_error_of_git_or_of_the_store_is_one_line(clones, tmp_path, monkeypatch):
    one, _ = clones
    for arguments, words in (
        (("pull", "--branch", "nope"), "has no runs"),
        (("push", saved(tmp_path, run_of(1)), "--remote", "nowhere"), "nowhere"),
        (("push", saved(tmp_path, run_of(1)), "--branch", "a b"), "check-ref-format"),
        (("push", saved(tmp_path, run_of(1)), "--branch", "refs/heads/main"), "must be the name of a branch"),
        (("plot", "--store", "nope"), "expected a folder of runs"),
        (("add", "nope.json"), "cannot read it"),
    ):
        done = call(monkeypatch, one, *arguments)
        assert done.exit_code == 2
        assert words in done.stderr
        assert "Traceback" not in done.output


def test_runs_are_added_to_a_folder_and_plotted(tmp_path, monkeypatch):
    paths = [saved(tmp_path, run_of(number, scale=1.0 if number < 6 else 1.5)) for number in range(12)]
    assert call(monkeypatch, tmp_path, "add", *paths).exit_code == 0
    done = call(monkeypatch, tmp_path, "plot", "--case", "operation/sdpa*")
    assert done.exit_code == 0, done.output
    assert done.stdout == "3 series, regressions: 1, improvements: 0, not clear: 0: history.html\n"
    assert "(2026-01-07), not yet at" in (tmp_path / "history.html").read_text()
    assert call(monkeypatch, tmp_path, "plot", "--case", "nope").exit_code == 2


def test_a_commit_links_the_page_of_its_report_or_says_the_command_that_makes_it(tmp_path, monkeypatch):
    paths = [saved(tmp_path, run_of(number, scale=1.0 if number < 6 else 1.5)) for number in range(12)]
    call(monkeypatch, tmp_path, "add", *paths)
    first, second, *_, last = sorted((tmp_path / "history").glob("*/*.json"))
    first.with_suffix(".html").touch()
    second.with_suffix("").mkdir()
    (second.with_suffix("") / "index.html").touch()
    call(monkeypatch, tmp_path, "plot", "--case", "operation/sdpa*")
    page = report_page.Page((tmp_path / "history.html").read_text())
    places = [path.relative_to(tmp_path).as_posix() for path in (first.with_suffix(".html"), second.with_suffix(""))]
    assert places[0] in page.addresses
    assert f"{places[1]}/index.html" in page.addresses
    stored = last.relative_to(tmp_path)
    assert stored.as_posix() in page.addresses
    assert f"harness report {stored} --out {stored.with_suffix('.html')}" in page.text
    assert page.text.count("the next page of the history links") == 10
    (before, after) = sorted((tmp_path / "history").glob("*/*.json"))[5:7]
    both = " ".join(str(path.relative_to(tmp_path)) for path in (before, after))
    assert f"Compare them: harness report {both}" in page.text
    after.with_suffix(".html").touch()
    call(monkeypatch, tmp_path, "plot", "--case", "operation/sdpa*")
    page = report_page.Page((tmp_path / "history.html").read_text())
    assert page.addresses.count(after.with_suffix(".html").relative_to(tmp_path).as_posix()) == 2


def state(folder):
    """All that the user has in a checkout: his branches, what is staged, and his files."""
    return [
        git_project.git(folder, *command)
        for command in (("for-each-ref", "refs/heads"), ("diff", "--cached"), ("status", "--porcelain"))
    ]


def pushed(folder):
    """The paths in the history branch of the remote."""
    git_project.git(folder, "fetch", "--quiet", "origin", "harness-history")
    return git_project.git(folder, "ls-tree", "-r", "--name-only", "FETCH_HEAD").splitlines()


def test_a_push_from_a_git_hook_leaves_the_users_branch_and_staged_files_alone(clones, tmp_path, monkeypatch):
    one, _ = clones
    (one / "staged.py").write_text("x = 2")
    git_project.git(one, "add", "staged.py")
    before = state(one)
    for name, value in (("DIR", one / ".git"), ("INDEX_FILE", one / ".git/index"), ("WORK_TREE", one)):
        monkeypatch.setenv(f"GIT_{name}", str(value))
    done = call(monkeypatch, one, "push", saved(tmp_path, run_of(1)))
    for name in ("DIR", "INDEX_FILE", "WORK_TREE"):
        monkeypatch.delenv(f"GIT_{name}")
    assert done.exit_code == 0, done.output
    assert state(one) == before
    assert pushed(one) == ["README.md", done.stdout.strip()]


def test_neither_hooks_nor_settings_of_the_user_decide_what_is_pushed(clones, tmp_path, monkeypatch):
    one, _ = clones
    for name in ("pre-push", "pre-commit", "post-checkout", "commit-msg", "reference-transaction"):
        hook = one / ".git/hooks" / name
        hook.write_text("#!/bin/sh\nexit 1\n")
        hook.chmod(0o755)
    (one / ".git/info/exclude").write_text("*.json\n")
    (one / ".git/info/attributes").write_text("*.json filter=upper\n")
    for name, value in {
        "filter.upper.clean": "tr a-z A-Z", "commit.gpgSign": "true", "gpg.program": "false", "user.name": "",
        "user.email": "",
    }.items():  # fmt: skip
        git_project.git(one, "config", name, value)
    monkeypatch.setenv("HOME", str(tmp_path))
    run = run_of(1, machine="龙芯 3A5000")
    done = call(monkeypatch, one, "push", saved(tmp_path, run))
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("3a5000-")
    other = run_of(2, machine="龙芯")
    assert call(monkeypatch, one, "push", saved(tmp_path, other)).stdout.startswith("unknown-")
    call(monkeypatch, one, "pull", "--store", tmp_path / "store")
    assert {stored.run.commit for stored in run_history.read(tmp_path / "store")} == {run.commit, other.commit}


def test_a_relative_path_is_a_remote_from_any_folder(clones, tmp_path, monkeypatch):
    one, _ = clones
    (one / "sub").mkdir()
    for folder, remote in ((one, "../origin.git"), (one / "sub", "../../origin.git")):
        done = call(monkeypatch, folder, "push", saved(tmp_path, run_of(1)), "--remote", remote)
        assert done.exit_code == 0, done.output
    git_project.git(one, "remote", "set-url", "origin", "../origin.git")
    done = call(monkeypatch, one, "push", saved(tmp_path, run_of(2)))
    assert done.exit_code == 0, done.output
    assert len(pushed(one)) == 3


@pytest.mark.parametrize("branch", ["main", "unpushed", "theirs"])
def test_a_branch_that_the_harness_did_not_make_is_refused_and_left_alone(branch, clones, tmp_path, monkeypatch):
    one, two = clones
    git_project.git(one, "branch", "unpushed")
    git_project.git(two, "push", "--quiet", "origin", "HEAD:theirs")
    before = git_project.git(one, "ls-remote", "origin")
    done = call(monkeypatch, one, "push", saved(tmp_path, run_of(1)), "--branch", branch)
    assert done.exit_code == 2
    (line,) = done.stderr.splitlines()
    assert f"branch {branch} was not made by harness history" in line
    assert git_project.git(one, "ls-remote", "origin") == before
    assert call(monkeypatch, one, "pull", "--branch", branch, "--store", tmp_path / "store").exit_code == 2


@pytest.mark.parametrize("remote", ["--upload-pack=touch ran;", "ext::sh -c 'touch ran'", "-c", ""])
@pytest.mark.parametrize("command", ["push", "pull"])
def test_a_remote_that_is_an_option_or_a_command_is_refused(command, remote, clones, tmp_path, monkeypatch):
    one, _ = clones
    runs = [saved(tmp_path, run_of(1))] if command == "push" else []
    done = call(monkeypatch, one, command, *runs, f"--remote={remote}")
    assert done.exit_code == 2
    (line,) = done.stderr.splitlines()
    assert "--remote must be" in line
    assert not (one / "ran").exists()


def test_texts_of_a_run_do_not_lead_out_of_the_store(clones, tmp_path, monkeypatch):
    one, _ = clones
    evil = run_of(1, machine="../../" + "x" * 300).model_copy(
        update={"commit": "0/../../../../evil\0" + "y" * 300, "started": "../../../evil"}
    )
    path = saved(tmp_path, run_of(1))
    path.write_text(json.dumps({"benchmarks": [], "harness": evil.model_dump(mode="json")}))
    store = tmp_path / "deep/er/store"
    assert call(monkeypatch, one, "add", path, "--store", store).exit_code == 0
    (added,) = store.rglob("*.json")
    assert added.parent.parent == store
    assert call(monkeypatch, one, "push", path).exit_code == 0
    assert pushed(one) == ["README.md", added.relative_to(store).as_posix()]
    assert not list(tmp_path.rglob("evil*"))


def test_a_branch_is_append_only(clones, tmp_path, monkeypatch):
    one, two = clones
    assert call(monkeypatch, one, "push", saved(tmp_path, run_of(1))).exit_code == 0
    done = call(monkeypatch, two, "push", saved(tmp_path, run_of(1, scale=2.0)))
    assert done.exit_code == 2
    assert "append-only" in done.stderr


def test_two_machines_that_push_at_the_same_time_both_succeed(clones, tmp_path, monkeypatch):
    one, two = clones
    commit, others = history_branch._commit, [run_of(2), run_of(3)]

    def after_another_push(*arguments):
        made = commit(*arguments)
        if others:
            history_branch.push(two, "origin", "harness-history", [others.pop()])
        return made

    monkeypatch.setattr(history_branch, "_commit", after_another_push)
    done = call(monkeypatch, one, "push", saved(tmp_path, run_of(1)))
    assert done.exit_code == 0, done.output
    assert len(pushed(one)) == 4
