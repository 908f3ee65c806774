"""The study of error against time of YOSO's estimators: what it stores, how it resumes, and what its sentences say."""

import json
import math

import pytest
from typer import Typer
from typer.testing import CliRunner, Result

from harness.core.record import Timing
from harness.core.spec import Swap
from suites.studies.estimators import __main__ as command
from suites.studies.estimators import page, results, verdicts
from suites.studies.estimators.measurement import TENSORS, Effort
from suites.studies.estimators.results import Outcome, Point, Study

SDPA = Swap(attention="sdpa")


def run(*arguments: object) -> Result:
    app = Typer()
    app.command()(command.main)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def timing(*milliseconds: float) -> Timing:
    return Timing(wall_seconds=[x / 1e3 for x in milliseconds], warmup_calls=1, threads=2, load_before=0.5)


def outcome(setting: Swap, forward: list[float], training: list[float], errors: list[float] | None = None) -> Outcome:
    """An outcome with these milliseconds a round, and in every round these errors of the four tensors."""
    fields = {"attention": setting.attention, "knobs": setting.knobs, "all_knobs": setting.knobs}
    by_name = {name: [x] * len(forward) for name, x in zip(TENSORS, errors, strict=True)} if errors else {}
    return Outcome(**fields, forward=timing(*forward), training=timing(*training), errors=by_name)


def point(*outcomes: Outcome, seq_len: int = 128) -> Point:
    return Point(
        inputs="matched",
        seq_len=seq_len,
        heads=2,
        head_dim=64,
        about="made up",
        reference_errors={"output": 1e-6},
        outcomes=list(outcomes),
        seconds=1.0,
        commit="0123456789abcdef+dirty",
    )


def made_up(rescored_ms: float, rescored_error: float) -> Point:
    return point(
        outcome(SDPA, [100, 102, 98] * 2, [300, 302, 298] * 2),
        outcome(verdicts.PLAIN, [10, 11, 9] * 2, [30, 33, 27] * 2, [0.6, 0.9, 0.9, 0.6]),
        outcome(
            verdicts.RESCORED,
            [rescored_ms] * 6,
            [rescored_ms] * 6,
            [rescored_error, 2 * rescored_error, 2 * rescored_error, rescored_error],
        ),
    )


def test_a_run_stores_every_round_and_continues_where_it_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "SETTINGS", (SDPA, verdicts.PLAIN))
    monkeypatch.setattr(command.machine, "fingerprint", lambda: {"cpu": "a|b", "torch": "2", "torch_threads": 1})
    monkeypatch.setattr(command.machine, "commit", lambda: "abc")
    monkeypatch.setattr(command, "Effort", lambda least: Effort(least=least, most=1))
    options = ("--out", tmp_path, "--inputs", "matched", "--rounds", 1)
    ended = run(*options, "--lengths", "64", "--minutes", 0)
    assert ended.exit_code == 0
    assert "left out" in ended.output
    assert not (tmp_path / results.RESULTS).exists()

    first = run(*options, "--lengths", "64")
    assert first.exit_code == 0
    assert "matched n=64: 1 rounds" in first.output
    stored = json.loads((tmp_path / results.RESULTS).read_text())
    assert stored["machine"]["torch_threads"] == 1
    (measured,) = stored["points"]
    assert (measured["inputs"], measured["seq_len"], measured["heads"], measured["head_dim"]) == ("matched", 64, 4, 64)
    assert set(measured["reference_errors"]) == {"output", "grad_q"}
    assert measured["commit"] == "abc"
    sdpa, plain = measured["outcomes"]
    assert sdpa["errors"] == {}
    assert list(plain["errors"]) == list(TENSORS)
    assert plain["all_knobs"]["num_hash"] == 64
    assert plain["all_knobs"]["hash_code_len"] == 6
    for name, errors in plain["errors"].items():
        assert len(errors) == 1, name
        assert 0.01 < errors[0] < 3, name
    for mode in ("forward", "training"):
        assert len(plain[mode]["wall_seconds"]) == 1
        assert plain[mode]["disturbed"] is not None
        assert plain[mode]["threads"]
        assert plain[mode]["load_before"] is not None

    again = run(*options, "--lengths", "64,65")
    assert again.exit_code == 0
    assert "n=64" not in again.output
    points = json.loads((tmp_path / results.RESULTS).read_text())["points"]
    assert points[0] == measured
    assert [found["seq_len"] for found in points] == [64, 65]
    reading = (tmp_path / page.READING).read_text()
    assert "## matched, n = 64" in reading
    assert "matched, n = 65, forward and backward: an error of" in reading

    monkeypatch.setattr(command, "SETTINGS", (SDPA,))
    other = run(*options, "--lengths", "64")
    assert other.exit_code == 2
    assert "expected results of the settings sdpa, got sdpa, yoso-num_hash=64" in other.stderr
    monkeypatch.setattr(command, "SETTINGS", (SDPA, verdicts.PLAIN))
    monkeypatch.setattr(command.machine, "fingerprint", lambda: {"cpu": "a|b", "torch": "2", "torch_threads": 2})
    assert "a machine with torch_threads 2, as this one, got 1" in run(*options, "--lengths", "64").stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--lengths", "64,x"), "--lengths: expected whole numbers of at least 64"),
        (("--lengths", "63"), "--lengths: expected whole numbers of at least 64"),
        (("--inputs", "real"), "--inputs: expected one of matched, clustered, rxnmapper, minilm, got 'real'"),
    ],
)
def test_a_wrong_argument_is_named(arguments, sentence, tmp_path):
    refused = run("--out", tmp_path, *arguments)
    assert refused.exit_code == 2
    assert sentence in refused.stderr


def test_rounds_fit_in_the_time():
    effort = Effort(least=5, most=25, seconds=10)
    assert [effort.rounds(x, math.inf) for x in (0.01, 1.0, 20.0)] == [25, 10, 5]
    assert [effort.rounds(1.0, left) for left in (7.5, 5.0, 4.9)] == [7, 5, None]


def test_claims_about_rescored_samples_follow_from_the_numbers():
    good, bad = (verdicts.rescored_against_plain(made_up(*numbers)) for numbers in ((12, 0.3), (60, 0.9)))
    assert good == (
        "matched, n = 128: error of output 0.5 [0.5, 0.5], below 1: met; error of dq 0.667 [0.667, 0.667], below 1: "
        "met; time forward 1.2 [1.09, 1.33], below 1.5: met; time forward and backward 0.4 [0.364, 0.444], below 1.5: "
        "met."
    )
    assert bad == (
        "matched, n = 128: error of output 1.5 [1.5, 1.5], below 1: not met; error of dq 2 [2, 2], below 1: not met; "
        "time forward 6 [5.45, 6.67], below 1.5: not met; time forward and backward 2 [1.82, 2.22], below 1.5: not met."
    )
    between = verdicts.rescored_against_plain(made_up(15, 0.6))
    assert between is not None
    assert "error of output 1 [1, 1], below 1: not met" in between
    assert "time forward 1.5 [1.36, 1.67], below 1.5: undecided" in between
    assert verdicts.rescored_against_plain(point(outcome(SDPA, [1], [1]))) is None


def test_the_green_zone_names_who_is_in_it_or_nearest_to_it():
    accurate = made_up(90, 0.05)
    assert verdicts.green_zone(accurate, "forward") == (
        "matched, n = 128, forward: an error of output of at most 10% in less time than sdpa, the fastest exact "
        f"attention: met by {verdicts.RESCORED.label} (time 0.9 [0.882, 0.918] of it, error 5.0%)."
    )
    assert f": met by {verdicts.RESCORED.label} (time 0.3" in verdicts.green_zone(accurate, "training")
    rough = verdicts.green_zone(made_up(90, 0.2), "training")
    assert (
        "an error of output and all gradients of at most 25% in less time than sdpa, the fastest exact attention: not "
        f"met; of the faster settings the smallest error has {verdicts.RESCORED.label} (time 0.3 "
    ) in rough
    assert rough.endswith("error 40.0%).")
    slow = verdicts.green_zone(made_up(400, 0.05), "forward")
    assert f"not met; of the faster settings the smallest error has {verdicts.PLAIN.label}" in slow
    assert f"the fastest with so small an error is {verdicts.RESCORED.label} (time 4 [3.92, 4.08] of it" in slow
    alone = point(outcome(SDPA, [1] * 3, [1] * 3), outcome(verdicts.PLAIN, [2] * 3, [2] * 3, [0.5] * 4))
    none = verdicts.green_zone(alone, "forward")
    assert none.endswith(
        f"not met; no setting is faster, and the smallest error has {verdicts.PLAIN.label} (time 2 [2, 2] of it, error "
        "50.0%)."
    )


def test_the_page_has_times_errors_and_verdicts(tmp_path):
    longer = made_up(12, 0.3).model_copy(update={"seq_len": 256})
    settings = [found.setting for found in longer.outcomes]
    machine = {"cpu": "a|b", "torch": "2", "torch_threads": 2}
    page.write(Study(settings=settings, machine=machine, points=[longer, made_up(60, 0.9)]), tmp_path)
    reading = (tmp_path / page.READING).read_text()
    assert r"on a\|b with 2 threads, torch 2" in reading
    assert "commit 0123456789ab+dirty" in reading
    assert (
        r"| yoso-num\_hash=64 | 10 \[9, 11\] | 0.1 | 30 \[27, 33\] | 0.1 | 60.0% | 90.0% | 90.0% | 60.0% |" in reading
    )
    assert "not met" in reading
    assert reading.index("## matched, n = 128") < reading.index("## matched, n = 256")
    assert "- matched, n = 256, forward: an error" in reading
    assert "- matched, n = 128, forward: an error" not in reading
    assert "Disturbed by other processes: none." in reading
