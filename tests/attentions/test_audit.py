"""What a plugin declares is audited, and everyone sees the findings: kit, list and page."""

from pathlib import Path

import contract_breakers as breakers
import pytest
import torch
import wrong_attentions as wrong
from typer.testing import CliRunner

from harness.commands.app import app
from harness.commands.list_command import markdown_page
from harness.core import attention_shape, registry
from harness.core.audit import audit, support_findings
from harness.core.capabilities import Capabilities

ORACLE = "`oracle` calls the module that `build` returns (FunctionModule.forward, for inputs in"
FINDINGS = [
    (breakers.RoughKernelError, "`kernel_error` must be a number from 0 to 0.001, got 0.45; "),
    (breakers.OracleCallsModule, f"{ORACLE} torch.float64 and torch.float32), so the module is compared with itself; "),
    (
        breakers.UnsupportedEverywhere,
        "`unsupported` refuses all 13 cases of declared devices, dtypes and head sizes at lengths from 1 to 4096, for "
        "example n=1, head size 64, float32 on cpu: not today. This names no hardware or software that is missing ",
    ),
    (breakers.SupportsOneLength, "`unsupported` refuses 11 of 13 cases "),
    (breakers.OracleIn16Bits, "`oracle` rounds in float64: a change of v by 1e-09 changes its result by "),
    (breakers.OracleRoughInFloat32, "`oracle` has an error of 0.00"),
    (breakers.NoDevices, "`capabilities` rule out every case: devices are empty; "),
    (breakers.EmptyReason, "`unsupported` must return a list of sentences, got [' '] at n=1000, head size 64, "),
]


def wrong_plugin(plugin_class):
    return breakers.right_plugin(plugin_class, "wrong")


@pytest.mark.parametrize(("plugin_class", "finding"), FINDINGS)
def test_each_finding_is_one_sentence_with_its_cause(plugin_class, finding):
    (found,) = audit(wrong_plugin(plugin_class))
    assert found.startswith(finding)


def refusing(reason, **declared):
    plugin = wrong_plugin(wrong.StubPlugin)
    plugin.capabilities = Capabilities(**{"devices": ("cpu",)} | declared)
    plugin.unsupported = lambda spec: [reason] if spec.seq_len > 1 or spec.head_dim < 64 else []
    return plugin


@pytest.mark.parametrize(
    ("reason", "declared"),
    [
        ("device 'cuda' does not exist: torch sees no CUDA device", {}),
        ("flash-attn does not import (No module named 'flash_attn')", {}),
        ("the kernel needs AVX2, which this CPU lacks", {}),
        ("the kernel needs compute capability 9.0, this GPU has 8.0", {}),
        ("its n x n tensors need 9 GiB, but only 2 GiB are available", {}),
        ("no quick kernel yet", {"backward": False, "why": {"backward": "no quick kernel yet"}}),
    ],
)
def test_missing_hardware_missing_software_and_declared_limits_are_no_findings(reason, declared):
    assert support_findings(refusing(reason, **declared)) == []


def test_limit_of_the_head_size_is_a_finding_only_where_it_is_not_declared():
    assert "head_dim must be 64" in support_findings(refusing("head_dim must be 64"))[0]
    assert support_findings(refusing("head_dim must be 64", head_dims="64")) == []


def test_support_of_a_device_that_is_missing_is_a_finding(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    plugin = wrong_plugin(wrong.StubPlugin)
    plugin.unsupported = lambda spec: []
    assert support_findings(plugin)[0].startswith(
        "`unsupported` gives no reason against cuda, which this machine does "
    )
    plugin.unsupported = attention_shape.device_reasons
    assert support_findings(plugin) == []


@pytest.mark.parametrize("method", ["oracle", "build", "unsupported"])
def test_what_a_plugin_raises_is_a_finding(method):
    plugin = wrong_plugin(wrong.StubPlugin)
    setattr(plugin, method, lambda *arguments: [][0])
    (finding,) = audit(plugin)
    assert finding.endswith("must work, but one raises IndexError: list index out of range")


def test_audit_changes_neither_the_module_nor_the_random_state():
    plugin = wrong_plugin(breakers.OracleCallsModule)
    forward, state = wrong.FunctionModule.forward, torch.get_rng_state()
    audit(plugin)
    assert wrong.FunctionModule.forward is forward
    assert torch.equal(torch.get_rng_state(), state)


def test_page_and_list_have_the_findings(monkeypatch):
    plugin = wrong_plugin(breakers.OracleCallsModule)
    plugin.kernel_error = 0.45
    page = markdown_page([plugin])
    section = page[page.index("## Findings of the audit") : page.index("## wrong")]
    assert "\n- wrong: `kernel_error` must be a number" in section
    assert f"\n- wrong: {ORACLE}" in section
    monkeypatch.setattr(registry, "names", lambda: ["wrong"])
    monkeypatch.setattr(registry, "get", lambda name: plugin)
    short, why = (CliRunner().invoke(app, ["list", *options]).stdout for options in ([], ["--why"]))
    assert "\naudit of wrong: `kernel_error` must be a number" in short
    assert f"\naudit of wrong: {ORACLE}" in why
    assert short.count("audit of") == 1


def test_shipped_attentions_have_no_findings_so_the_page_says_none():
    page = (Path(__file__).parents[2] / "docs" / "attentions.md").read_text()
    section = page[page.index("## Findings of the audit") :].split("\n## ")[0]
    assert section.rstrip().endswith("\n\nNone.")
