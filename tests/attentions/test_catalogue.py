"""The page of all attentions is what the plugins say."""

from pathlib import Path

from typer.testing import CliRunner

from harness.commands.app import app
from harness.commands.list_command import markdown_page
from harness.core import registry
from harness.core.plugin import AttentionPlugin

PAGE = Path(__file__).parents[2] / "docs" / "attentions.md"


def test_the_page_is_current():
    """Only of the harness's own plugins: an environment may have others."""
    plugins = [registry.get(name) for name in registry.names()]
    own = [one for one in plugins if type(one).__module__.startswith("harness.attentions.")]
    assert PAGE.read_text() == markdown_page(own), "write it again: harness list --markdown > docs/attentions.md"


def test_the_command_prints_it():
    found = CliRunner().invoke(app, ["list", "--markdown"])
    assert found.exit_code == 0
    assert found.stdout == markdown_page(registry.get(name) for name in registry.names())


class Cubic(AttentionPlugin):
    name = "cubic"
    summary = "all triples | of tokens"
    source = "nobody, 1900"
    estimates = "softmax"

    def default_knobs(self, spec):
        """``depth``: how deep."""
        return {"depth": 2}

    def cost(self, spec):
        return {"matmul float32": spec.knobs["depth"] * float(spec.seq_len) ** 3, "copy": float(spec.seq_len)}

    def build(self, spec):
        raise AssertionError("the page builds nothing")

    oracle = build


def test_what_is_said_of_an_attention():
    page = markdown_page([Cubic(), registry.get("softmax")])
    assert "| [cubic](#cubic) | all triples \\| of tokens | n^3.0 |" in page
    assert "| [softmax](#softmax) |" in page
    assert "n^2.0 |" in page
    section = page[page.index("## cubic") :]
    for words in (
        "- Source: nobody, 1900",
        "Estimates: [softmax](#softmax)",
        "- Knobs: `depth=2`",
        "`depth`: how deep.",
    ):
        assert words in section
    assert "- *causal*: the harness asks no attention to hide the future (all)" in page


def test_operations_that_nobody_counted_are_a_dash():
    class Uncounted(Cubic):
        def cost(self, spec):
            return None

    assert "of tokens | — |" in markdown_page([Uncounted()])
