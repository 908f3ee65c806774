from importlib.metadata import EntryPoint

import pytest
import wrong_attentions as wrong

from harness import registry


def entries(monkeypatch, *found):
    monkeypatch.setattr(registry, "entry_points", lambda group: [e for e in found if e.group == group])


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


def test_two_entry_points_of_one_name_are_refused(monkeypatch):
    entries(monkeypatch, entry("a", "x:A"), entry("a", "y:A"))
    with pytest.raises(registry.RegistryError, match="x:A and y:A"):
        registry.names()


def test_a_plugin_that_does_not_import_says_why(monkeypatch):
    entries(monkeypatch, entry("a", "no_such_module:A"))
    with pytest.raises(registry.RegistryError, match="no_such_module"):
        registry.get("a")


@pytest.mark.parametrize(
    ("value", "words"), [("math:pi", "not an AttentionPlugin"), ("wrong_attentions:RIGHT", "right")]
)
def test_what_is_no_plugin_of_that_name_is_refused(monkeypatch, value, words):
    entries(monkeypatch, entry("a", value))
    with pytest.raises(registry.RegistryError, match=words):
        registry.get("a")
