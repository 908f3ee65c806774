"""A pytest session in which each attention has a process of its own: what one changes does not reach the others."""

import json

import pytest
import torch
import wrong_attentions as wrong

import harness.pytest_plugin.hooks  # noqa: F401  pytester unloads what an inner session imports, and numpy loads once
from harness.measure import ceilings

pytest_plugins = ["pytester", "harness_session", "installed_attentions"]
pytestmark = pytest.mark.usefixtures("out")

CHANGING = """
import os, threading
import torch
from torch import nn
from harness.attentions.shared.softmax_oracle import softmax_attention
from harness.core.plugin import AttentionPlugin

class Changing(AttentionPlugin):
    summary, source = "changes its process", "tests"

    def kernel(self, spec):
        state = [torch.backends.cuda.flash_sdp_enabled(), torch.is_autocast_enabled("cpu"), torch.get_num_threads()]
        return f"pid {os.getpid()}, state {state}, threads {len(threading.enumerate())}"

    def build(self, spec):
        self.change()
        class Attention(nn.Module):
            def forward(_, q, k, v, mask):
                scores = (q @ k.mT) / q.shape[-1] ** 0.5
                if mask is not None:
                    scores = scores.masked_fill(~mask[:, None, None], float("-inf"))
                out = self.Identity.apply(scores.softmax(-1) @ v)
                return out.to(q.dtype)
        return Attention()

    def change(self):
        pass

    class Identity(torch.autograd.Function):
        forward = staticmethod(lambda context, x: x.clone())
        backward = staticmethod(lambda context, gradient: gradient)

    def oracle(self, spec, q, k, v, mask, rows):
        return softmax_attention(q, k, v, mask, rows)

class Flash(Changing):
    name = "flash_off"
    def change(self):
        torch.backends.cuda.enable_flash_sdp(False)
        def burn():
            while True: sum(range(1000))
        if all(thread.name != "burner" for thread in threading.enumerate()):
            threading.Thread(target=burn, daemon=True, name="burner").start()

class Autocast(Changing):
    name = "autocast_on"
    def change(self):
        torch.set_autocast_enabled("cpu", True)

class InBackward(Changing):
    name = "in_backward"
    class Identity(torch.autograd.Function):
        forward = staticmethod(lambda context, x: x.clone())
        @staticmethod
        def backward(context, gradient):
            torch.set_num_threads(5)
            return gradient

class Witness(Changing):
    name = "witness"
"""
NAMES = {"flash_off": "Flash", "autocast_on": "Autocast", "in_backward": "InBackward", "witness": "Witness"}
SUITE = """
import pytest
from harness.core.spec import OperationSpec

def specs(selection):
    names = {names}
    return [OperationSpec(attention=n, seq_len=l, heads=2, mode="forward_backward") for l in {lengths} for n in names]

@pytest.mark.operation(specs=specs)
def test_operation(case):
    assert case.record.timing is not None
"""


@pytest.fixture(autouse=True)
def _without_ceilings(monkeypatch):
    monkeypatch.setattr(ceilings, "measure", lambda device: [])


@pytest.fixture
def mixed_suite(pytester):
    def write(names, lengths=(32,)):
        pytester.makeconftest('pytest_plugins = ["harness.pytest_plugin"]')
        pytester.makepyfile(test_suite=SUITE.format(names=names, lengths=lengths))

    return write


def test_what_an_attention_changes_is_a_finding_and_does_not_reach_the_next(
    mixed_suite, install, run_session, stored_run
):
    install("changing_plugin", CHANGING, **NAMES)
    mixed_suite([*NAMES])
    result = run_session(processes=True)
    records = {record.spec.attention: record for record in stored_run().records}
    assert {name: record.status for name, record in records.items()} == {
        "flash_off": "ok",
        "autocast_on": "incorrect",  # it computes in bfloat16, and its oracle does not
        "in_backward": "ok",
        "witness": "ok",
    }
    kernels = [record.kernel.partition(", ") for record in records.values()]
    assert len({pid for pid, _, _ in kernels}) == 4
    assert len({state for _, _, state in kernels}) == 1  # each began as clean as the first
    assert records["flash_off"].findings == [
        "the flash backend of scaled_dot_product_attention was switched off",
        "threads of Python were left running: burner",
        "its threads were still at work when the case had ended",
    ]
    assert records["autocast_on"].findings == ["autocast on cpu was switched on"]
    (threads,) = records["in_backward"].findings
    assert threads.startswith("torch.get_num_threads() changed from ")
    assert records["witness"].findings == []
    result.stdout.fnmatch_lines(["attention in_backward, 1 case: torch.get_num_threads() changed from * to 5"])
    result.stdout.no_fnmatch_line("attention witness, *")


def test_cases_run_attention_by_attention_and_are_stored_in_the_order_of_the_suite(
    mixed_suite, run_session, stored_run, pytester
):
    mixed_suite(["none", "sdpa_cudnn"], lengths=(16, 32))
    result = run_session("-v", "--deadline=0", processes=True)  # no case is started
    lines = [line for line in result.outlines if "::test_operation[" in line]
    assert [line.partition("operation/")[2].partition("-b1")[0] for line in lines[:4]] == [
        "none-n16", "none-n32", "sdpa_cudnn-n16", "sdpa_cudnn-n32",
    ]  # fmt: skip
    of_suite = [("none", 16), ("sdpa_cudnn", 16), ("none", 32), ("sdpa_cudnn", 32)]
    assert [(record.spec.attention, record.spec.seq_len) for record in stored_run().records] == of_suite
    pytester.runpytest_inprocess("--collect-only", "-q", "--harness-cases=cases.json")
    specs = json.loads((pytester.path / "cases.json").read_text())["specs"]
    assert [(spec["attention"], spec["seq_len"]) for spec in specs] == of_suite  # `harness ab` measures in this order


def test_an_attention_that_only_pytests_process_knows_runs_in_it_with_a_notice(added, suite, run_session, stored_run):
    threads = torch.get_num_threads()

    def changes_threads(q, k, v, mask):
        torch.set_num_threads(threads + 1)
        return wrong.right(q, k, v, mask)

    suite(added(wrong.plugin_of(changes_threads)))
    result = run_session(processes=True)
    (record,) = stored_run().records
    assert record.status == "ok"
    assert record.findings == [f"torch.get_num_threads() changed from {threads} to {threads + 1}"]
    assert torch.get_num_threads() == threads  # it was restored, because later cases run in the same process
    result.stdout.fnmatch_lines(["attention changes_threads was registered in pytest's process by registry.add, *"])
