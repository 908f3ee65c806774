"""``harness.compare`` and ``harness.run``, called as a user calls them, at 64 tokens."""

import functools
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import synthetic
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

import harness
from harness.api import run_cases
from harness.api.comparison_result import WIDTH
from harness.core import registry, store
from harness.core.spec import OperationSpec
from harness.report.model.amounts import ABSENT
from harness.report.model.case_command import case_command

FAST = {"lengths": 64, "heads": 2, "seconds": 0.01}
SMALL = {"lengths": 16, "heads": 1, "seconds": 0.01, "against": ()}
MASKED = "it equals the definition without the padding mask"


def right(q, k, v, key_padding_mask=None):
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    if key_padding_mask is not None:
        scores = scores.masked_fill(~key_padding_mask[:, None, None], -torch.inf)
    return scores.softmax(-1) @ v


def no_mask(q, k, v):
    return right(q, k, v)


def ignores_mask(q, k, v, key_padding_mask):
    return right(q, k, v)


def raises(q, k, v):
    raise RuntimeError("no such luck")


class Projected(nn.Module):
    """Linear attention with a weight, which has one head size only."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.eye(64, dtype=torch.float64))

    def forward(self, q, k, v):
        return (q @ self.weight) @ (k.transpose(-1, -2) @ v) / k.shape[2]


class Shared(set):
    """A set that a copy of its owner has, too."""

    def __deepcopy__(self, memo):
        return self


class Dropped(nn.Module):
    """Softmax attention with dropout; ``modes`` are those in which it and its copies were called."""

    def __init__(self):
        super().__init__()
        self.dropout = nn.Dropout(0.1)
        self.modes = Shared()

    def forward(self, q, k, v):
        self.modes.add(self.training)
        return self.dropout((q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)) @ v


class NotCopied(nn.Module):
    def forward(self, q, k, v):
        return right(q, k, v)

    def __deepcopy__(self, memo):
        raise RuntimeError("it holds a lock")


class MyPlugin(harness.AttentionPlugin):
    name = "of_its_class"
    summary = "softmax attention"
    source = "a test"
    exact_softmax = True

    def build(self, spec):
        return registry.get("softmax").build(spec)

    def oracle(self, spec, q, k, v, key_padding_mask, rows):
        return right(q, k, v, key_padding_mask)[:, :, rows]


@pytest.fixture(scope="module")
def result():
    state = torch.get_rng_state()
    compared = harness.compare(
        {"mine": right, "ignores_mask": ignores_mask, "raises": raises}, against=["sdpa", "performer_softmax"], **FAST
    )
    assert torch.equal(torch.get_rng_state(), state), "the user's random numbers are others after a comparison"
    return compared


@pytest.fixture
def no_ceilings(monkeypatch):
    """Saves the second in which the machine's peak throughput is measured, for a test that reads no time."""
    monkeypatch.setattr(run_cases.ceilings, "measure", lambda device: [])


def rows_of(result):
    return {row.name: row for row in result.rows}


def notes_of(result):
    return " ".join(" ".join(result.notes).split())


def test_the_table_has_each_attention_with_its_error_beside_its_time(result):
    lines = str(result).splitlines()
    assert lines[0] == "64 tokens, forward, B=1 H=2 d=64, float32 on cpu"
    assert re.split("  +", lines[1]) == [
        "attention", "time [95% interval]", "time / sdpa", "error", "memory", "status"
    ]  # fmt: skip
    assert max(map(len, lines)) <= WIDTH
    rows = rows_of(result)
    assert [*rows] == ["mine", "ignores_mask", "raises", "sdpa", "performer_softmax", "sdpa_again"]
    for name in ("mine", "sdpa", "performer_softmax", "sdpa_again"):
        # A name that does not fit beside the rest has a line of its own above it.
        place = next(place for place, line in enumerate(lines) if line.split()[:1] == [name])
        line = lines[place + 1] if lines[place] == name else lines[place]
        assert rows[name].time_words in line
        assert line.index(rows[name].time_words) < line.index(rows[name].error_words)
        assert line.endswith("ok")
    assert rows["mine"].error_words == "rounding"
    assert rows["performer_softmax"].error_words.endswith("%")
    assert repr(result) == str(result)


def test_a_mistake_is_diagnosed_and_an_exception_named(result):
    rows, notes = rows_of(result), notes_of(result)
    assert rows["ignores_mask"].status == "incorrect"
    assert f"[1] ignores_mask, 64 tokens: incorrect: {MASKED}; neighbour" in notes
    assert "[2] raises, 64 tokens: crashed: RuntimeError: no such luck; at test_compare.py:" in notes
    lines = [line.split() for line in str(result).splitlines()]
    assert ["ignores_mask", "incorrect", "[1]"] in lines
    assert ["raises", "crashed", "[2]"] in lines
    assert "also wrong" in result.explain()
    assert "Traceback" not in str(result)


def test_the_notes_say_how_it_was_measured(result):
    notes = notes_of(result)
    assert "all cases ran one after the other in one process with" in notes
    assert "sdpa_again is sdpa, timed again as the last of each length" in notes
    assert "the error of performer_softmax is relative to softmax" in notes


def test_the_frame_has_the_numbers_of_the_records(result):
    frame = result.to_frame().set_index("attention")
    (record,) = (record for record in result.records if record.case_id.startswith("operation/mine-"))
    assert frame.loc["mine", "seconds"] == np.median(record.timing.wall_seconds)
    assert frame.loc["mine", "peak_bytes"] == record.memory.peak_bytes
    assert frame.loc["mine", "error"] < 1e-6
    assert frame.loc["performer_softmax", "error_against"] == "softmax"
    assert frame.loc["raises", "status"] == "crashed"
    assert np.isnan(frame.loc["ignores_mask", "error"]), "an error without the time that it belongs to"


def test_what_is_saved_is_a_run_and_a_file_of_pytest_benchmark(result, tmp_path):
    path = result.save(tmp_path / "new folder" / "run.json")
    assert store.load(path).records == result.records
    content = json.loads(path.read_text())
    names = [each["fullname"] for each in content["benchmarks"]]
    assert "harness.compare[operation/mine-n64-b1-h2-d64-fwd-fp32-cpu]" in names
    assert "node" not in content["machine_info"]
    (mine,) = (each for each in content["benchmarks"] if "/mine-" in each["name"])
    assert mine["stats"]["median"] == pytest.approx(rows_of(result)["mine"].report.time.value)
    assert "timing" not in mine["extra_info"]


def test_the_report_is_the_whole_page(result, tmp_path):
    page = result.report(tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<html" in page
    assert "sdpa_again is sdpa, timed again" in page
    assert page.count("is compared with no other") == 0, "a note of the table's marks, which the page does not have"


def test_a_case_is_measured_again_by_the_same_call(result):
    command = case_command(result.run, result.records[0])
    assert command.startswith("harness.compare({'mine': right, ")
    assert "like='softmax', against=['sdpa', 'performer_softmax'], lengths=(64,)" in command


def test_a_notebook_gets_html_in_which_nothing_of_a_name_is_markup():
    run = synthetic.run([synthetic.operation("sdpa", 128, np.random.default_rng(0))])
    run.records[0] = run.records[0].model_copy(
        update={"spec": run.records[0].spec.model_copy(update={"attention": "<b>"})}
    )
    html = harness.ComparisonResult(run)._repr_html_()
    assert "<td>&lt;b&gt;</td>" in html
    assert html.startswith("<table>")


def test_a_wide_table_stays_within_the_terminal_and_equal_reasons_are_said_once():
    rng = np.random.default_rng(0)
    names = ("sdpa", "xformers_cutlass", "softmax", "sdpa_math", "yoso")
    records = [synthetic.operation(name, n, rng) for n in (128, 16384) for name in names]
    long = "a_name_of_thirty_two_characters_"
    records.append(records[0].model_copy(update={"spec": records[0].spec.model_copy(update={"attention": long})}))
    result = harness.ComparisonResult(synthetic.run(records))
    lines = str(result).splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert lines[lines.index(long) + 1].split()[0] == rows_of(result)[long].time_words.split()[0]
    notes = notes_of(result)
    assert "[1] xformers_cutlass, 128 and 16,384 tokens: unsupported: device=cpu" in notes
    assert "[2] softmax, sdpa_math, 16,384 tokens: out of memory: RuntimeError: not enough memory" in notes
    assert "[3]" not in notes


@pytest.mark.parametrize("method", ["save", "report"])
def test_a_path_that_cannot_be_written_is_one_clear_line(result, tmp_path, method):
    (tmp_path / "file").write_text("")
    ending = {"save": ".json", "report": ".html"}[method]
    with pytest.raises(ValueError, match=r"path '.*' cannot be written: its folder is a file; choose another path"):
        getattr(result, method)(tmp_path / "file" / f"x{ending}")
    with pytest.raises(ValueError, match=f"path must end with {ending}, got 'x.txt'"):
        getattr(result, method)("x.txt")
    with pytest.raises(ValueError, match=f"path must be text or a pathlib.Path that ends with {ending}, got int 3"):
        getattr(result, method)(3)


def test_nothing_stays_registered(result):
    assert not registry.added_names()


def test_functions_modules_and_plugins_of_every_kind():
    module = Projected()
    result = harness.compare(
        {
            "module": module,
            "lambda": lambda q, k, v: right(q, k, v),
            "partial": functools.partial(no_mask),
            "builtin": scaled_dot_product_attention,
            "plugin": MyPlugin,
        },
        like=None,
        estimates="softmax",
        against=(),
        passes="forward_backward",
        dtype=torch.float32,
        **FAST,
    )
    assert {row.record.status for row in result.rows} == {"ok"}, result.explain()
    assert len(result.rows) == 5
    rows = rows_of(result)
    assert module.weight.dtype is torch.float64, "the user's module was changed"
    assert rows["module"].error.value > 0.5
    assert rows["lambda"].error_words == rows["builtin"].error_words == "rounding"
    assert {row.ratio_words for row in result.rows} == {ABSENT}, "a ratio without a reference"
    assert "module was not verified at 2 other sizes, because it cannot run there: with batch 3" in notes_of(result)
    assert "module, lambda, partial, builtin are their own definitions (like=None)" in notes_of(result)


def test_without_a_definition_there_is_no_error_and_it_is_said():
    result = harness.compare({"mine": no_mask}, like=None, against=(), passes=["forward", "forward_backward"], **FAST)
    assert [row.record.spec.mode for row in result.rows] == ["forward", "forward_backward"]
    assert {row.error_words for row in result.rows} == {"not compared"}
    assert "mine is its own definition (like=None): its results were compared with no other" in notes_of(result)
    compared = {check.what for record in result.records for check in record.checks}
    assert "output of a repeated call" in compared
    assert not compared & {"output", "output, worst row", "grad_q", "output of a second call", "timed call: output"}
    assert "nothing else says what is right" in result.explain()


def test_a_module_is_called_in_its_own_mode_everywhere_and_dropout_is_named(no_ceilings):
    training, evaluated = Dropped(), Dropped().eval()
    own = harness.compare({"mine": training}, like=None, passes=["forward", "forward_backward"], **SMALL)
    assert {record.status for record in own.records} == {"ok"}, own.explain()
    modules = {"training": training, "evaluated": evaluated}
    result = harness.compare(modules, **SMALL)
    assert (training.modes, evaluated.modes) == ({True}, {False})
    assert [row.record.status for row in result.rows] == ["incorrect", "ok"]
    assert (
        "it draws random numbers: a second call with the same inputs gives another result; the module is in training"
        in (notes_of(result))
    )


def test_a_function_without_a_gradient_is_incorrect_and_not_torchs_text(no_ceilings):
    sizes = {"passes": "forward_backward", **SMALL}

    def detached(q, k, v):
        return right(q, k.detach(), v)

    wrong = harness.compare({"detached": detached, "under_no_grad": torch.no_grad()(right)}, like=right, **sizes)
    assert {record.status for record in wrong.records} == {"incorrect"}
    notes = notes_of(wrong)
    assert re.search(r"detached, 16 tokens: incorrect: it equals zero everywhere; grad_k: error 1, allowed", notes)
    assert "under_no_grad, 16 tokens: incorrect: the output has no gradient: it does not depend on q, k" in notes
    assert "not finite" not in notes
    ignores = harness.compare({"values": lambda q, k, v: 2 * v}, like=lambda q, k, v: v + v, **sizes)
    assert {record.status for record in ignores.records} == {"ok"}, ignores.explain()


def test_a_definition_that_fails_is_named_and_not_the_function(no_ceilings):
    raised = harness.compare({"mine": right}, like=lambda q, k, v: 1 / 0, **SMALL)
    notes = notes_of(raised)
    assert "the definition given as like raised ZeroDivisionError: division by zero; at test_compare.py:" in notes
    assert "of mine" not in notes
    assert ".py" not in notes.replace("test_compare.py", "")
    without = harness.compare({"mine": right}, like=torch.no_grad()(right), passes="forward_backward", **SMALL)
    assert "the output of the definition given as like has no gradient" in notes_of(without)


def test_padding_needs_a_mask_and_an_oracle_may_be_a_function():
    result = harness.compare({"mine": right, "no_mask": no_mask}, like=right, against=(), padding=0.25, **FAST)
    rows = rows_of(result)
    assert rows["mine"].status == "ok"
    assert rows["mine"].error_words == "rounding*"
    assert "no_mask, 64 tokens: unsupported: no_mask takes no key_padding_mask: give it a parameter" in notes_of(result)
    wrong = harness.compare({"mine": ignores_mask}, like=right, against=(), padding=0.25, **FAST)
    assert f"mine, 64 tokens: incorrect: {MASKED}; output: error" in notes_of(wrong)


def test_an_interrupted_comparison_keeps_what_was_measured(monkeypatch):
    cases = []

    def run(spec, effort):
        cases.append(spec)
        if len(cases) == 2:
            raise KeyboardInterrupt
        return synthetic.timed(spec, 1e-3, 100, np.random.default_rng(0))

    monkeypatch.setattr(run_cases.in_this_process, "run", run)
    result = harness.compare({"mine": right}, **FAST)
    assert [record.spec.attention for record in result.records] == ["mine"]
    assert "interrupted: 4 cases were not measured" in notes_of(result)
    cases[:] = [None]
    with pytest.raises(KeyboardInterrupt):
        harness.compare({"mine": right}, **FAST)
    assert not registry.added_names()


@pytest.mark.parametrize(
    ("again", "words"), [(1.3, "not clear"), (1.05, "1.20"), (None, "not clear")], ids=["noisy", "calm", "disturbed"]
)
def test_a_ratio_is_clear_only_beyond_that_of_the_reference_to_itself(again, words):
    disturbed = {"disturbed": True, "disturbance": "made up"}

    def timed(name, seconds, **changes):
        spec = OperationSpec(attention=name, seq_len=64)
        record = synthetic.timed(spec, 1.0, 100, np.random.default_rng(0), exact_softmax=True, **changes)
        timing = record.timing.model_copy(
            update={"wall_seconds": [seconds] * 5} | (disturbed if again is None and name == "sdpa_again" else {})
        )
        return record.model_copy(update={"timing": timing})

    records = [timed("mine", 1.2), timed("sdpa", 1.0, kernel="one"), timed("sdpa_again", again or 1.0, kernel="one")]
    result = harness.ComparisonResult(synthetic.run(records), timed_again=("sdpa", "sdpa_again"))
    assert rows_of(result)["mine"].ratio_words == words


BAD = [
    ({"attentions": right}, r'attentions must be a dictionary .* got function; write {"mine": my_function}'),
    ({"attentions": {}, "against": []}, "attentions and against are both empty"),
    ({"attentions": {"sdpa": right}}, r"attentions\['sdpa'\] has the name of a registered attention; choose another"),
    ({"attentions": {"": right}}, "a name in attentions must be printable text of 1 to 40 characters, got ''"),
    ({"attentions": {"a/b": right}}, "must have no comma, no slash"),
    ({"attentions": {"a": 3}}, r"attentions\['a'\] must be a function .* got int 3"),
    ({"attentions": {"a": nn.Linear}}, r"attentions\['a'\] must be ready to be called, got the class Linear"),
    ({"attentions": {"a": nn.Linear(2, 2)}}, r"must take \(q, k, v\) or .* got the signature \(input: torch.Tensor"),
    (
        {"attentions": {"a": lambda q, k: q}},
        r"must take \(q, k, v\) or \(q, k, v, key_padding_mask\), got the .*\(q, k\)",
    ),
    ({"attentions": {"a": lambda q, k, v, w: q}}, "give w a value with functools.partial or a default"),
    ({"attentions": {"a": lambda q, k, v, *, w: q}}, "give w a value with functools.partial or a default"),
    ({"attentions": {"sdpa_again": right}}, "must not end in _again, which names the reference"),
    (
        {"attentions": {"a": NotCopied()}},
        r"attentions\['a'\] must be a module that can be copied, .* raised RuntimeError: it holds a lock; give",
    ),
    ({"like": "sofmax"}, "like must name registered attentions, got 'sofmax'; did you mean 'softmax'"),
    ({"like": 3}, "like must be a function"),
    ({"against": ["spda"]}, "against must name registered attentions, got 'spda'; did you mean 'sdpa'"),
    ({"against": 3}, "against must be a list of names"),
    ({"lengths": []}, r"lengths must be one or more sequence lengths in tokens, got \[\]"),
    ({"lengths": "512"}, "lengths must be one or more sequence lengths in tokens, got '512'"),
    ({"lengths": [1.5]}, "lengths must be a whole number of 1 or more, got 1.5"),
    ({"lengths": [0]}, "lengths must be a whole number of 1 or more, got 0"),
    ({"lengths": True}, "lengths must be a whole number of 1 or more, got True"),
    ({"heads": 0}, "heads must be a whole number of 1 or more, got 0"),
    ({"heads": 10**30}, "heads must be at most 2,147,483,647, got 1000000000000000000000000000000"),
    ({"lengths": 2**40}, "lengths must be at most 2,147,483,647, got 1099511627776"),
    ({"heads": 2**30, "lengths": 2**30}, "must give a tensor of at most .* numbers, got 73,786,976,294,838,206,464"),
    ({"passes": []}, r"passes must be 'forward' or 'forward_backward' or both in a list, got \[\]"),
    ({"dtype": "float64"}, "dtype must be 'float32' or 'bfloat16' or 'float16', got 'float64'"),
    ({"device": "gpu"}, "device must be 'cpu' or 'cuda', or 'cuda:' and a number, got 'gpu'"),
    ({"padding": 1}, "padding must be a fraction of each sequence, from 0 to below 1, got 1"),
    ({"padding": float("nan")}, "padding must be a finite number, got nan"),
    ({"inputs": "recorded"}, "inputs must be 'normal' or 'matched' or 'clustered', got 'recorded'"),
    ({"seconds": 0}, "seconds must be above 0"),
    ({"estimates": "softmax"}, "estimates='softmax' needs like=None or a function, got like='softmax'"),
]


@pytest.mark.parametrize(("changes", "message"), BAD, ids=[f"{[*case[0]]}-{number}" for number, case in enumerate(BAD)])
def test_bad_input_is_one_line_that_names_the_argument(changes, message):
    arguments = {"attentions": {"mine": right}} | changes
    with pytest.raises(ValueError, match=message) as caught:
        harness.compare(**arguments)
    assert "\n" not in str(caught.value)
    assert not registry.added_names()


def test_run_measures_a_list_of_cases(monkeypatch):
    specs = [OperationSpec(attention=name, seq_len=64, heads=2) for name in ("sdpa", "none")]
    asked = []

    class Worker:
        def __init__(self, timeout):
            assert timeout is None

        def run(self, spec, effort):
            asked.append((spec, effort))
            return synthetic.record(spec)

        def close(self):
            asked.append("closed")

    monkeypatch.setattr(run_cases, "CaseWorker", Worker)
    measured = harness.run(specs)
    assert [record.spec for record in measured.records] == specs
    assert asked == [*((spec, run_cases.default_effort()) for spec in specs), "closed"]
    assert measured.records[0].machine_use is not None
    (record,) = harness.run(specs[:1], in_process=True, effort=harness.Effort(2, 2, 0.0, 1, 0.0)).records
    assert len(record.timing.wall_seconds) == 2
    for wrong in (3, specs[0], ["sdpa"]):
        with pytest.raises(ValueError, match="specs must be a list of OperationSpec, ModelSpec"):
            harness.run(wrong)
    with pytest.raises(ValueError, match=r"^effort must be a harness.Effort or None, got int 3; for example .*$"):
        harness.run(specs, effort=3)


def test_every_public_name_is_there_and_a_type_checker_may_read_the_package():
    for name in harness.__all__:
        assert getattr(harness, name).__name__ == name
    assert (Path(harness.__file__).parent / "py.typed").exists()


def test_a_script_without_a_main_guard_from_standard_input():
    script = (
        "import harness\n"
        "print(harness.compare({'mine': lambda q, k, v: (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v}, "
        "lengths=16, heads=1, seconds=0.01))\n"
    )
    root = Path(__file__).parents[2]
    ended = subprocess.run([sys.executable, "-"], input=script, capture_output=True, text=True, cwd=root, timeout=300)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("16 tokens, forward, B=1 H=1 d=64, float32 on cpu\nattention ")
    assert "/" not in ended.stderr.replace("CPUAllocator", ""), "progress without a terminal"
