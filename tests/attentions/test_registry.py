import sys
from importlib.metadata import EntryPoint
from inspect import unwrap

import pytest
import wrong_attentions as wrong
from typer.testing import CliRunner

from harness.cases import runner
from harness.commands.app import app
from harness.core import registry
from harness.profiles import cases
from harness.profiles.selection import Selection


class Nameless(wrong.Attention):
    source = None

    def __init__(self):
        self.make = None


class Fails(wrong.Attention):
    def __init__(self):
        raise ValueError("no such luck")


class Leaves:
    def __init__(self):
        sys.exit("no licence")


class Refuses(wrong.Attention):
    def __init__(self):
        super().__init__("refuses", None)

    def unsupported(self, spec):
        raise KeyError("spec")


def entries(monkeypatch, *found):
    monkeypatch.setattr(registry, "entry_points", lambda group: [e for e in found if e.group == group])
    monkeypatch.setattr(registry, "_entries", unwrap(registry._entries))


def entry(name, value):
    return EntryPoint(name, value, registry.ATTENTIONS)


def test_every_shipped_attention_loads_under_its_own_name():
    for name in registry.names():
        plugin = registry.get(name)
        assert plugin.name == name
        assert plugin.summary
        assert plugin.source


def test_an_unknown_name_lists_the_known():
    with pytest.raises(registry.RegistryError, match=r"unknown attention 'nope'.*softmax"):
        registry.get("nope")


def test_a_taken_name_is_refused():
    taken = wrong.Attention("softmax", None)
    with pytest.raises(registry.RegistryError, match="already registered"):
        registry.add(taken)


def test_what_was_not_added_cannot_be_removed():
    with pytest.raises(registry.RegistryError, match="was not added"):
        registry.remove("softmax")


def test_two_entry_points_of_one_name_are_refused_and_the_others_load(monkeypatch):
    right = entry("right", "wrong_attentions:RIGHT")
    entries(monkeypatch, entry("a", "x:A"), right, entry("a", "y:A"))
    assert registry.names() == ["a", "right"]
    with pytest.raises(registry.RegistryError, match="x:A and y:A; rename or uninstall one"):
        registry.get("a")
    assert registry.get("right") is wrong.RIGHT


def test_one_entry_point_seen_twice_is_one(monkeypatch):
    entries(monkeypatch, *[entry("right", "wrong_attentions:RIGHT")] * 2)
    assert registry.get("right") is wrong.RIGHT


def test_two_tasks_of_one_name_are_refused(monkeypatch):
    entries(monkeypatch, *[EntryPoint("a", value, registry.TASKS) for value in ("x:A", "y:A")])
    with pytest.raises(registry.RegistryError, match="x:A and y:A"):
        registry.get_task("a")


def test_a_plugin_that_does_not_import_says_why(monkeypatch):
    entries(monkeypatch, entry("a", "no_such_module:A"))
    with pytest.raises(registry.RegistryError, match="no_such_module"):
        registry.get("a")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("math:pi", "not an AttentionPlugin"),
        ("wrong_attentions:RIGHT", "right"),
        ("test_registry:Nameless", "has no name and no source"),
        ("test_registry:Leaves", "SystemExit: no licence"),
        ("test_registry:Fails", "ValueError: no such luck"),
    ],
)
def test_what_is_no_plugin_of_that_name_is_refused(monkeypatch, value, words):
    entries(monkeypatch, entry("a", value))
    with pytest.raises(registry.RegistryError, match=words):
        registry.get("a")


BROKEN = {
    "a": "x:A and y:A",
    "absent": "No module named 'no_such_module'",
    "fails": "ValueError: no such luck",
    "refuses": "KeyError: 'spec'",
}


@pytest.fixture
def broken(monkeypatch):
    """Plugins that are broken in four ways, and one that is right."""
    entries(
        monkeypatch,
        entry("a", "x:A"),
        entry("a", "y:A"),
        entry("absent", "no_such_module:A"),
        entry("fails", "test_registry:Fails"),
        entry("refuses", "test_registry:Refuses"),
        entry("right", "wrong_attentions:RIGHT"),
    )


@pytest.mark.usefixtures("broken")
def test_list_names_each_broken_plugin_and_goes_on():
    found = CliRunner().invoke(app, ["list", "--why"], env={"COLUMNS": "200"})
    assert found.exit_code == 0
    for name, words in BROKEN.items():
        assert any(line.startswith(name) and words in line for line in found.stdout.splitlines())
    rows = [line.split() for line in found.stdout.splitlines() if line.split()[:1] == ["right"]]
    assert rows[0][1:3] == ["yes", "yes"]


@pytest.mark.usefixtures("broken")
def test_a_run_records_each_broken_plugin_and_goes_on():
    selection = Selection(seq_lens=(16,))
    records = [runner.run(spec, selection.effort) for spec in cases.operation(selection) if spec.mode == "forward"]
    found = {record.spec.attention: record for record in records}
    assert {name: record.status for name, record in found.items()} == dict.fromkeys(BROKEN, "crashed") | {"right": "ok"}
    for name, words in BROKEN.items():
        assert words in found[name].reasons[0]
