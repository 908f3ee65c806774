"""The figures of docs/accuracy.md are those of the committed runs, and what it links to exists."""

import json
import re
import statistics
from pathlib import Path

import pytest

from harness.core import store
from harness.core.record import Record
from harness.core.spec import QualitySpec, TaskSpec

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "accuracy.md"
TEXT = PAGE.read_text(encoding="utf-8")
TASKS = ("needle", "distant_label", "digits")


def of_run(name: str) -> list[Record]:
    return store.load(ROOT / "reports" / name / "run.json").records


def rows(table: list[list[str]]) -> str:
    head, *others = table
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *others]
    # As it is written by hand, without spaces around the rule.
    return "\n".join(f"|{'|'.join(line)}|" if line[0] == "---" else f"| {' | '.join(line)} |" for line in lines)


def percent(scores: list[float]) -> str:
    return ", ".join(f"{score:.0%}" for score in scores)


def scores(*, trained_with: str | None) -> str:
    """Of models trained with each attention, or of those trained with one and evaluated with the others."""
    records = {
        (record.spec.task, record.spec.attention): record
        for record in of_run("cpu-accuracy")
        if isinstance(record.spec, TaskSpec)
    }
    others = ("yoso_e", "yoso") if trained_with is None else ("yoso_e", "yoso", "linear")
    table = [["task", "chance", "softmax", *others]]
    for name in TASKS:
        softmax = records[name, "softmax"].task
        assert softmax is not None
        if trained_with is None:
            results = [records[name, other].task for other in others]
            cells = [percent(result.scores) for result in results if result is not None]
        else:
            swapped = {found.attention: found.scores for found in softmax.evaluated_with}
            cells = [percent(swapped[other]) for other in others]
        length = records[name, "softmax"].spec.seq_len
        table.append([f"{name}, n={length}", f"{softmax.chance:.0%}", percent(softmax.scores), *cells])
    return rows(table)


def noise() -> str:
    found = {
        record.knobs["num_hash"]: record.quality.errors
        for record in of_run("cpu-standard")
        if isinstance(record.spec, QualitySpec)
        and record.quality is not None
        and (record.spec.attention, record.spec.seq_len, record.spec.inputs) == ("yoso", 2048, "matched")
        and record.knobs["hash_family"] == "hadamard"
    }
    hashes = sorted(found)
    return rows(
        [
            ["hashes", *map(str, hashes)],
            *(
                [words, *(f"{statistics.median(found[number][name]):.0%}" for number in hashes)]
                for words, name in (("output", "output"), ("gradient of the query", "grad_q"))
            ),
        ]
    )


def floor() -> str:
    """Scores of all seeds; a dash where not every seed has one."""
    summary = ROOT / "reports" / "cpu-trained-short" / "summary.json"
    results = json.loads(summary.read_text(encoding="utf-8"))["results"]
    found = {(each["task"], each["seq_len"], each["attention"]): each["scores"] for each in results}
    attentions = ("sdpa", "yoso", "yoso_norm_floor")
    table = [["task", "softmax", "yoso", "yoso, norm_floor=0.1"]]
    for task, length in (("needle", 128), ("distant_label", 128)):
        cells = [[*found.get((task, length, attention), {}).values()] for attention in attentions]
        table.append([f"{task}, n={length}", *(percent(cell) if len(cell) == 5 else "\N{EN DASH}" for cell in cells)])
    return rows(table)


@pytest.mark.parametrize(
    ("mark", "expected"),
    [
        ("floor", floor),
        ("trained", lambda: scores(trained_with=None)),
        ("swapped", lambda: scores(trained_with="softmax")),
        ("noise", noise),
    ],
)
def test_a_table_is_that_of_the_committed_run(mark, expected):
    between = re.search(rf"<!-- table: {mark} -->\n(.*?)<!-- end of table -->", TEXT, re.DOTALL)
    assert between is not None
    assert between[1].strip() == expected()


def test_every_linked_file_exists_and_readme_links_the_page():
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (PAGE.parent / target).exists(), target
    assert "(docs/accuracy.md)" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_a_figure_that_no_run_has_is_called_a_simulation():
    without_tables = re.sub(r"<!-- table.*?end of table -->", "", TEXT, flags=re.DOTALL)
    for paragraph in without_tables.split("\n\n"):
        if re.search(r"\d%", paragraph):
            assert re.search(r"\*Simulation|reports/[\w-]+/(run|summary)\.json|below 100%", paragraph), paragraph
