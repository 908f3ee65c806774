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


class NoNameOrSource(wrong.StubPlugin):
    source = None

    def __init__(self):
        self.make_module = None


class RaisesInInit(wrong.StubPlugin):
    def __init__(self):
        raise ValueError("no such luck")


class ExitsInInit:
    def __init__(self):
        sys.exit("no licence")


class RaisesInUnsupported(wrong.StubPlugin):
    def __init__(self):
        super().__init__("raises_in_unsupported", None)

    def unsupported(self, spec):
        raise KeyError("spec")


def install(monkeypatch, *installed):
    """Make ``installed`` the only entry points."""
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry for entry in installed if entry.group == group])
    monkeypatch.setattr(registry, "_entries", unwrap(registry._entries))


def attention_entry(name, value):
    return EntryPoint(name, value, registry.ATTENTIONS)


def test_every_attention_loads_under_its_own_name():
    for name in registry.names():
        plugin = registry.get(name)
        assert plugin.name == name
        assert plugin.summary
        assert plugin.source


def test_unknown_name_lists_the_known_names():
    with pytest.raises(registry.RegistryError, match=r"unknown attention 'nope'.*softmax"):
        registry.get("nope")


def test_adding_a_taken_name_is_refused():
    taken = wrong.StubPlugin("softmax", None)
    with pytest.raises(registry.RegistryError, match="already registered"):
        registry.add(taken)


def test_removing_a_plugin_that_was_not_added_is_refused():
    with pytest.raises(registry.RegistryError, match="was not added"):
        registry.remove("softmax")


def test_two_entry_points_with_one_name_are_refused_and_the_others_load(monkeypatch):
    right = attention_entry("right", "wrong_attentions:RIGHT")
    install(monkeypatch, attention_entry("a", "x:A"), right, attention_entry("a", "y:A"))
    assert registry.names() == ["a", "right"]
    with pytest.raises(registry.RegistryError, match="x:A and y:A; rename or uninstall one"):
        registry.get("a")
    assert registry.get("right") is wrong.RIGHT


def test_duplicate_of_an_entry_point_is_ignored(monkeypatch):
    install(monkeypatch, *[attention_entry("right", "wrong_attentions:RIGHT")] * 2)
    assert registry.get("right") is wrong.RIGHT


def test_two_tasks_with_one_name_are_refused(monkeypatch):
    install(monkeypatch, *[EntryPoint("a", value, registry.TASKS) for value in ("x:A", "y:A")])
    with pytest.raises(registry.RegistryError, match="x:A and y:A"):
        registry.get_task("a")


def test_import_error_of_a_plugin_is_in_the_message(monkeypatch):
    install(monkeypatch, attention_entry("a", "no_such_module:A"))
    with pytest.raises(registry.RegistryError, match="no_such_module"):
        registry.get("a")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("math:pi", "not an AttentionPlugin"),
        ("wrong_attentions:RIGHT", "loads a plugin named 'right'"),
        ("test_registry:NoNameOrSource", "has no name and no source"),
        ("test_registry:ExitsInInit", r"raised SystemExit.*no licence"),
        ("test_registry:RaisesInInit", "ValueError: no such luck"),
    ],
)
def test_entry_point_without_a_valid_plugin_is_refused(monkeypatch, value, message):
    install(monkeypatch, attention_entry("a", value))
    with pytest.raises(registry.RegistryError, match=message):
        registry.get("a")


BROKEN = {
    "two_packages": "x:A and y:A",
    "missing_module": "No module named 'no_such_module'",
    "raises_in_init": "ValueError: no such luck",
    "raises_in_unsupported": "KeyError: 'spec'",
}


@pytest.fixture
def broken_plugins(monkeypatch):
    """Four plugins, each broken in another way, and one that is right."""
    install(
        monkeypatch,
        attention_entry("two_packages", "x:A"),
        attention_entry("two_packages", "y:A"),
        attention_entry("missing_module", "no_such_module:A"),
        attention_entry("raises_in_init", "test_registry:RaisesInInit"),
        attention_entry("raises_in_unsupported", "test_registry:RaisesInUnsupported"),
        attention_entry("right", "wrong_attentions:RIGHT"),
    )


@pytest.mark.usefixtures("broken_plugins")
def test_list_shows_the_error_of_each_broken_plugin():
    result = CliRunner().invoke(app, ["list", "--why"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    for name, message in BROKEN.items():
        assert any(line.startswith(name) and message in line for line in result.stdout.splitlines())
    rows = [line.split() for line in result.stdout.splitlines() if line.split()[:1] == ["right"]]
    assert rows[0][1:3] == ["yes", "yes"]


@pytest.mark.usefixtures("broken_plugins")
def test_run_records_each_broken_plugin_as_crashed():
    selection = Selection(seq_lens=(16,))
    records = [runner.run(spec, selection.effort) for spec in cases.operation(selection) if spec.mode == "forward"]
    by_attention = {record.spec.attention: record for record in records}
    statuses = {name: record.status for name, record in by_attention.items()}
    assert statuses == dict.fromkeys(BROKEN, "crashed") | {"right": "ok"}
    for name, message in BROKEN.items():
        assert message in by_attention[name].reasons[0]
