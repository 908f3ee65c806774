"""The authors' settings, the mean over seeds, and the suites that are run by name."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from harness.core import registry
from harness.core.record import Record
from harness.core.spec import TaskSpec
from harness.core.store import load
from harness.profiles import published_settings
from harness.profiles.selection import Selection
from harness.statistics import intervals
from harness.training.train import train

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def suites_marker(pytestconfig):
    """The marker that the plugin registers, for suites that are imported here."""
    pytestconfig.addinivalue_line("markers", "task(specs=None): a suite's")


def suite(name: str) -> ModuleType:
    description = importlib.util.spec_from_file_location(name, ROOT / "suites" / "studies" / f"{name}.py")
    assert description is not None
    assert description.loader is not None
    module = importlib.util.module_from_spec(description)
    description.loader.exec_module(module)
    return module


def test_listops_has_the_authors_settings():
    spec = published_settings.lra("listops", "yoso", num_hash=16, seeds=3)
    assert (spec.seq_len, spec.batch, spec.steps, spec.warmup_steps) == (2000, 32, 5000, 1000)
    assert (spec.layers, spec.hidden_size, spec.intermediate_size, spec.heads) == (2, 64, 128, 2)
    assert (spec.learning_rate, spec.schedule, spec.dropout, spec.family) == (1e-4, "one_cycle", 0.1, "lra")
    assert dict(spec.knobs) == {"hash_code_len": 11, "num_hash": 16}
    assert dict(published_settings.lra("listops", "yoso_e").knobs) == {"hash_code_len": 11}
    assert dict(published_settings.lra("listops", "softmax").knobs) == {}


def test_listops_trains_at_its_length_and_model():
    """Four steps of the authors' 5,000, on a few of their 96,000 examples; everything else is as they have it."""
    fewer = {"steps": 4, "warmup_steps": 2, "train_examples": 8, "eval_examples": 4, "seeds": 1, "batch": 4}
    result = train(published_settings.lra("listops", "yoso", **fewer))
    assert (result.steps, result.train_examples, len(result.scores)) == ([4], 8, 1)
    assert result.train_memory is not None


def test_a_warm_up_past_the_end_is_refused():
    with pytest.raises(ValueError, match="warmup_steps must be at most steps=20, got 1000; lower it or raise steps"):
        published_settings.lra("listops", "yoso", steps=20)


def test_a_cycle_without_both_its_sides_is_refused():
    for wrong in ({"steps": 100, "warmup_steps": 1}, {"steps": 100, "warmup_steps": 100}, {"steps": 10}):
        with pytest.raises(ValueError, match="'one_cycle' needs at least 2 warmup_steps and a step after them"):
            TaskSpec(attention="yoso", seq_len=32, schedule="one_cycle", **wrong)


def test_an_unknown_task_is_refused_with_the_known():
    with pytest.raises(ValueError, match="Long Range Arena's, listops, imdb, aan, cifar10, pathfinder; got 'needle'"):
        published_settings.lra("needle", "yoso")


def test_the_small_bert_and_its_grid():
    grid = published_settings.bert_small_grid("glue_mrpc", "yoso", steps=100)
    assert len(grid) == len({spec.case_id for spec in grid}) == 12
    assert {spec.batch for spec in grid} == {8, 16, 32}
    for spec in grid:
        assert (spec.seq_len, spec.layers, spec.hidden_size, spec.heads, spec.steps) == (512, 4, 512, 8, 100)
        assert dict(spec.knobs) == {"hash_code_len": 9, "num_hash": 32}


def test_the_mean_of_seeds_has_students_interval():
    found = intervals.seed_mean([0.5, 0.6, 0.7])
    assert found.mean == pytest.approx(0.6)
    # The quantile of t with 2 degrees of freedom is 4.302653; the standard error is 0.1 / sqrt(3).
    assert found.low == pytest.approx(0.6 - 4.302653 * 0.1 / 3**0.5)
    assert found.high == pytest.approx(0.6 + 4.302653 * 0.1 / 3**0.5)
    assert found.is_above(0.35)
    assert not found.is_above(0.36)
    assert intervals.seed_mean([0.9]) == intervals.SeedMean(0.9, None, None)
    assert not intervals.seed_mean([0.9]).is_above(0.1), "one seed says nothing of the noise"
    with pytest.raises(ValueError, match="one or more, got none"):
        intervals.seed_mean([])


def test_lra_is_every_task_with_both_numbers_of_hashes():
    specs = suite("lra").specs(Selection(device="cuda"))
    assert {spec.task for spec in specs} == set(published_settings.LRA)
    assert len(specs) == len({spec.case_id for spec in specs}) == 30
    listops = [spec for spec in specs if spec.task == "listops"]
    assert sorted(dict(s.knobs).get("num_hash", 0) for s in listops if s.attention == "yoso") == [16, 32]
    assert {spec.seeds for spec in specs} == {3}


def test_accuracy_has_three_tasks_controls_and_swaps():
    module = suite("accuracy")
    for profile in ("quick", "standard", "full"):
        specs = module.specs(Selection(profile))
        assert len({spec.task for spec in specs}) == 3
        assert {"softmax", "sdpa", "yoso_e", "yoso"} == {spec.attention for spec in specs}
        assert min(spec.seeds for spec in specs) >= 2
        assert len({spec.case_id for spec in specs}) == len(specs) == 12
    for spec in specs:
        for swap in spec.evaluate_with:
            registry.get(swap.attention)
    hashes = [
        dict(swap.knobs).get("num_hash") for spec in specs if spec.attention == "yoso_e" for swap in spec.evaluate_with
    ]
    assert hashes[:6] == [4, 8, 16, 32, 64, 128]
    assert module.specs(Selection("gpu", device="cuda")) == []


def pytest_of(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", f"--rootdir={cwd}", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)


def test_a_suite_keeps_its_trainings_and_goes_on(tmp_path):
    """The real conftest and plugin, on a tiny case: twice, the second time from the kept results."""
    (tmp_path / "conftest.py").write_text((ROOT / "suites" / "conftest.py").read_text())
    (tmp_path / "test_tiny.py").write_text(
        "import pytest\n"
        "from harness.core.spec import TaskSpec\n"
        "def specs(selection):\n"
        "    return [TaskSpec(attention='yoso_e', task='needle', seq_len=8, steps=3, batch=4, train_examples=8,\n"
        "                     eval_examples=20, hidden_size=16, layers=1)]\n"
        "@pytest.mark.task(specs=specs)\n"
        "def test_tiny(case):\n"
        "    assert case.record.task is not None\n"
    )
    found: list[Record] = []
    for out, where in (("first.json", ["--isolate"]), ("second.json", [])):
        done = pytest_of(f"--benchmark-json={out}", "--checkpoints=kept", *where, "test_tiny.py", cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        found += load(tmp_path / out).records
        assert str(tmp_path) not in json.loads((tmp_path / out).read_text())["harness"]["command"]
    first, second = (record.task for record in found)
    assert first is not None
    assert second is not None
    assert (first.scores, first.train_seconds) == (second.scores, second.train_seconds), "it was trained again"
    assert len(list((tmp_path / "kept").glob("needle-yoso_e-*/seed-*/result.json"))) == 2


def test_a_data_folder_that_is_none_is_refused(tmp_path):
    (tmp_path / "conftest.py").write_text((ROOT / "suites" / "conftest.py").read_text())
    (tmp_path / "test_none.py").write_text("def test_none(): pass\n")
    done = pytest_of("--data-dir=nowhere", "test_none.py", cwd=tmp_path)
    assert done.returncode == 4
    assert "--data-dir must be a folder, got 'nowhere'" in done.stderr
