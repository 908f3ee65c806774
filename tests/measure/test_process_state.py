"""Changes of a process's state: each is named in a sentence, and what can be restored is restored."""

import gc
import os
import random
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
import wrong_attentions as wrong

from harness.core.spec import OperationSpec
from harness.measure import idle_work, inputs, process_state, sampled_rows, verify
from harness.measure.process_state import clean_numerics, differences, findings, restore, snapshot


@pytest.fixture(autouse=True)
def before():
    """The state at the start of the test, which is restored at its end."""
    state = snapshot()
    yield state
    restore(state)
    assert differences(state, snapshot()) == []


def set_attribute(owner, name, value):
    return lambda: setattr(owner, name, value)


CHANGES = {
    "threads": (lambda: torch.set_num_threads(3), "torch.get_num_threads() changed from * to 3"),
    "flash": (
        lambda: torch.backends.cuda.enable_flash_sdp(False),
        "the flash backend of scaled_dot_product_attention was switched off",
    ),
    "dtype": (
        lambda: torch.set_default_dtype(torch.float64),
        "torch.get_default_dtype() changed from torch.float32 to torch.float64",
    ),
    "device": (lambda: torch.set_default_device("meta"), "torch.get_default_device() changed from cpu to meta"),
    "precision": (
        lambda: torch.set_float32_matmul_precision("medium"),
        "torch.get_float32_matmul_precision() changed from highest to medium",
    ),
    "precision by torch's newer names": (
        set_attribute(torch.backends.cuda.matmul, "fp32_precision", "tf32"),
        "torch.backends.cuda.matmul.fp32_precision changed from * to tf32",
    ),
    "oneDNN": (
        set_attribute(torch.backends.mkldnn, "enabled", False),
        "torch.backends.mkldnn.enabled was switched off",
    ),
    "cuDNN": (
        set_attribute(torch.backends.cudnn, "benchmark", True),
        "torch.backends.cudnn.benchmark was switched on",
    ),
    "autocast": (lambda: torch.set_autocast_enabled("cpu", True), "autocast on cpu was switched on"),
    "autocast's dtype": (
        lambda: torch.set_autocast_dtype("cpu", torch.float16),
        "the dtype of autocast on cpu changed from torch.bfloat16 to torch.float16",
    ),
    "gradients": (lambda: torch.set_grad_enabled(False), "gradient mode was switched off"),
    "determinism": (
        lambda: torch.set_deterministic_debug_mode("warn"),
        "torch.get_deterministic_debug_mode() changed from 0 to 1",
    ),
    "subnormals": (lambda: torch.set_flush_denormal(True), "the flushing of subnormal numbers to 0 was switched on"),
    "folder": (lambda: os.chdir("/"), "the working directory changed"),
    "signal": (
        lambda: signal.signal(signal.SIGUSR1, signal.SIG_IGN),
        "the handler of SIGUSR1 changed from SIG_DFL to SIG_IGN",
    ),
    "variable": (
        lambda: os.environ.update(SOME_SETTING="secret"),
        "the environment variable SOME_SETTING was set",
    ),
    "garbage collection": (gc.disable, "garbage collection was switched off"),
    "collection threshold": (lambda: gc.set_threshold(9, 9, 9), "gc.get_threshold() changed from * to (9, 9, 9)"),
    "trace": (lambda: sys.setprofile(lambda *event: None), "sys.getprofile() changed"),
    "affinity": (
        lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}),
        "the CPU affinity changed from cores * to cores *",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_named_and_can_be_restored(name, before):
    if name == "affinity" and len(os.sched_getaffinity(0)) == 1:
        pytest.skip("there is one core only")
    change, words = CHANGES[name]
    change()
    found = differences(before, snapshot())
    start, _, end = words.partition("*")
    assert [sentence for sentence in found if sentence.startswith(start) and sentence.endswith(end.split("*")[-1])]
    assert not any("secret" in sentence for sentence in found)


def test_reseeded_generators_of_python_and_numpy_are_named(before):
    torch.manual_seed(0)  # torch's own generator may be used
    random.choices(range(9), k=2000)  # importing a library may draw
    np.random.rand(2000)
    assert differences(before, snapshot()) == []
    with process_state.keep_python_generators():
        random.seed(0)
        np.random.seed(0)
        found = differences(before, snapshot())
    assert found == ["Python's random was seeded", "numpy.random was seeded"]


def test_replaced_functions_are_named(before, monkeypatch):
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", lambda *tensors: tensors[2])
    monkeypatch.setattr(torch.Tensor, "softmax", lambda self, dim: self)
    monkeypatch.setattr(verify, "check", lambda *arguments: [])
    found = differences(before, snapshot())
    monkeypatch.undo()
    assert found == [
        f"{name} was replaced by another function"
        for name in (
            "torch.nn.functional.scaled_dot_product_attention",
            "torch.Tensor.softmax",
            "harness.measure.verify.check",
        )
    ]


def test_a_thread_that_works_on_is_named_and_a_waiting_one_has_no_work(before):
    stop = threading.Event()

    def burn():
        while not stop.is_set():
            sum(range(1000))

    burner = threading.Thread(target=burn, name="burner")
    burner.start()
    try:
        found = findings(before, "cpu")
    finally:
        stop.set()
        burner.join()
    assert found[0] == "threads of Python were left running: burner"
    assert found[1] == "its threads were still at work when the case had ended"
    assert findings(before, "cpu") == []


def test_a_child_process_that_works_on_is_found(before, monkeypatch):
    monkeypatch.setattr(idle_work, "CHILDREN_FINISH_SECONDS", 0.1)
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as child:
        try:
            (found,) = findings(before, "cpu")
        finally:
            child.kill()
    assert found == "its child processes were still at work when the case had ended"


def test_only_a_cuda_case_may_initialize_cuda(before, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    assert differences(before, snapshot(), "cuda") == []
    assert differences(before, snapshot(), "cpu") == ["CUDA was initialized, although the case runs on cpu"]


def test_a_folder_that_was_deleted_is_a_change(before, tmp_path):
    os.chdir(tmp_path)
    tmp_path.rmdir()
    assert differences(before, snapshot()) == ["the working directory changed"]


def spoil_precision():
    torch.set_autocast_enabled("cpu", True)
    torch.set_default_dtype(torch.float64)
    torch.set_float32_matmul_precision("medium")


def test_clean_numerics_hides_what_a_plugin_has_set_and_puts_it_back():
    spoil_precision()
    spoiled = snapshot()
    with torch.inference_mode(), clean_numerics():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
        assert torch.get_float32_matmul_precision() == "highest"
        assert not torch.is_inference_mode_enabled()
    assert differences(spoiled, snapshot()) == []


def test_inputs_and_oracle_are_the_same_whatever_a_plugin_has_set():
    spec = OperationSpec(attention="right", seq_len=32, heads=2)
    rows = torch.arange(32)

    def results():
        tensors = inputs.make(spec)
        oracle = sampled_rows.run_oracle(wrong.RIGHT, spec, tensors, rows, torch.float32, True)
        return [tensors.q, oracle.output, *oracle.gradients]

    expected = results()
    spoil_precision()
    for measured, truth in zip(results(), expected, strict=True):
        assert measured.dtype == truth.dtype
        assert torch.equal(measured, truth)


def test_what_cannot_be_read_does_not_stop_the_comparison(before):
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    (first, *_) = differences(before, snapshot())
    assert first.startswith("torch.get_float32_matmul_precision() changed from highest to ")


def test_variables_of_the_compiler_are_not_a_finding(before, monkeypatch):
    monkeypatch.setenv(process_state.ALLOWED_VARIABLES[0] + "CACHE_DIR", "somewhere")
    found = differences(before, snapshot())
    monkeypatch.undo()
    assert found == []


def test_a_state_that_can_no_longer_be_read_is_a_finding(monkeypatch):
    before = snapshot()
    monkeypatch.setattr(threading, "enumerate", lambda: [][1])
    assert findings(before, "cpu") == ["the state of the process can no longer be read (IndexError)"]
