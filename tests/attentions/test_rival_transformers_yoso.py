"""transformers' sampled YOSO, with a stand-in for the authors' CUDA kernels: dense sums over the same codes."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from stand_in_kernels import kernels, lsh_cumulation, lsh_weighted_cumulation

from harness.attentions import transformers_yoso
from harness.core import registry
from harness.core.spec import ModelSpec, OperationSpec
from harness.measure import inputs, verify

PLUGIN = registry.get("transformers_yoso")
ROOT = Path(__file__).parents[2]


def make(**changes):
    sizes = {
        "seq_len": 64,
        "heads": 2,
        "batch": 2,
        "head_dim": 32,
        "mode": "forward_backward",
        "knobs": {"num_hash": 32},
    }
    return OperationSpec(attention="transformers_yoso", **sizes | changes)


@pytest.mark.parametrize("padding", [0.0, 0.25])
def test_it_equals_its_oracle(monkeypatch, padding):
    monkeypatch.setattr(transformers_yoso, "_kernels", kernels)
    spec = make(padding=padding)
    assert verify.failures(verify.check(PLUGIN, spec, PLUGIN.build(spec), inputs.make(spec))) == []


def drops_the_last(query_mask, *rest):
    out = lsh_cumulation(query_mask, *rest)
    out[:, -4:] = 0
    return out


def ignores_weights(query_mask, query_code, query_weight, *rest):
    return lsh_weighted_cumulation(query_mask, query_code, query_weight.abs(), *rest)


@pytest.mark.parametrize(
    ("changed", "what"),
    [({"lsh_cumulation": drops_the_last}, "output"), ({"lsh_weighted_cumulation": ignores_weights}, "grad_q")],
)
def test_wrong_kernels_are_found(monkeypatch, changed, what):
    monkeypatch.setattr(transformers_yoso, "_kernels", lambda: kernels(**changed))
    spec = make()
    failures = verify.failures(verify.check(PLUGIN, spec, PLUGIN.build(spec), inputs.make(spec)))
    assert any(what in failure for failure in failures), failures


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dtype": "bfloat16"}, "dtype must be float32, got bfloat16"),
        ({"head_dim": 48}, "head_dim must be 32, 64, 128 or 256, got 48"),
        ({"seq_len": 100}, "seq_len must be a multiple of 8, or tokens are left out; got 100"),
        ({"seq_len": 8, "knobs": {"num_hash": 8}}, "seq_len must be a multiple of 32, or tokens are left out; got 8"),
        ({"seq_len": 65536, "mode": "forward"}, "seq_len must be below 65536, got 65536"),
        ({"knobs": {"num_hash": 48}}, "num_hash must be up to 32 or a multiple of 32, got 48"),
        ({"knobs": {"hash_code_len": 14}}, "hash_code_len must be 1 to 13, got 14"),
        (
            {"batch": 8, "heads": 8, "knobs": {"hash_code_len": 15}, "mode": "forward"},
            "fewer than 2^31, got 2147483648",
        ),
    ],
)
def test_what_the_kernels_would_get_wrong_is_refused(changes, words):
    assert any(words in reason for reason in PLUGIN.unsupported(make(**changes)))


def test_where_there_are_none_it_says_how_to_get_them(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    transformers_yoso._kernels.cache_clear()
    monkeypatch.setitem(sys.modules, transformers_yoso.EXTENSION, None)
    monkeypatch.setitem(sys.modules, "kernels", None)
    (reason,) = PLUGIN.unsupported(make(device="cuda"))
    transformers_yoso._kernels.cache_clear()
    assert "clone https://github.com/mlpen/YOSO" in reason
    assert "tests/gpu/authors_kernels.py" in reason


def test_on_a_cpu_the_device_is_the_reason():
    assert PLUGIN.unsupported(make()) == ["the authors' kernels run on CUDA, not on cpu"]
    model = ModelSpec(attention="transformers_yoso", seq_len=64, hidden_size=64, heads=2)
    assert PLUGIN.unsupported(model) == ["the authors' kernels run on CUDA, not on cpu"]


def test_the_script_that_builds_them_names_what_is_not_there(tmp_path):
    command = [sys.executable, str(ROOT / "tests/gpu/authors_kernels.py")]
    done = subprocess.run([*command, str(tmp_path), str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 1
    assert "the first argument must be a clone of https://github.com/mlpen/YOSO" in done.stderr
    assert "authors_kernels.py YOSO out/authors" in subprocess.run(command, capture_output=True, text=True).stderr
