"""docs/attentions.md is generated from the plugins."""

from pathlib import Path

import torch
from typer.testing import CliRunner

from harness.commands.app import app
from harness.commands.list_command import markdown_page
from harness.core import registry
from harness.core.plugin import AttentionPlugin

PAGE = Path(__file__).parents[2] / "docs" / "attentions.md"


def test_page_is_up_to_date():
    """Only the harness's own plugins are on it; the environment may have others."""
    plugins = [registry.get(name) for name in registry.names()]
    own = [plugin for plugin in plugins if type(plugin).__module__.startswith("harness.attentions.")]
    assert PAGE.read_text() == markdown_page(own), "regenerate it: harness list --markdown > docs/attentions.md"


def test_command_prints_the_page():
    result = CliRunner().invoke(app, ["list", "--markdown"])
    assert result.exit_code == 0
    assert result.stdout == markdown_page(registry.get(name) for name in registry.names())


class Cubic(AttentionPlugin):
    name = "cubic"
    summary = "attention over triples | of tokens"
    source = "made up, 1900"
    estimates = "softmax"

    def default_knobs(self, spec):
        """``depth``: number of levels."""
        return {"depth": 2}

    def cost(self, spec):
        return {"matmul float32": spec.knobs["depth"] * float(spec.seq_len) ** 3, "copy": float(spec.seq_len)}

    def build(self, spec):
        return torch.nn.Identity()

    def oracle(self, spec, q, k, v, key_padding_mask, rows):
        return v[:, :, rows]


def test_page_has_summary_growth_source_and_knobs():
    page = markdown_page([Cubic(), registry.get("softmax")])
    assert "| [cubic](#cubic) | attention over triples \\| of tokens | n^3.0 |" in page
    assert "| [softmax](#softmax) |" in page
    assert "n^2.0 |" in page
    section = page[page.index("## cubic") :]
    for text in (
        "- Source: made up, 1900",
        "Estimates: [softmax](#softmax)",
        "- Knobs: `depth=2`",
        "`depth`: number of levels.",
    ):
        assert text in section
    assert "- *causal*: the harness measures no causal attention (all)" in page


def test_operations_that_are_not_counted_are_a_dash():
    class Uncounted(Cubic):
        def cost(self, spec):
            return None

    assert "of tokens | — |" in markdown_page([Uncounted()])
