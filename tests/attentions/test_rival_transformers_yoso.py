"""Sampled YOSO from transformers, on a replacement for its CUDA kernels: dense sums over the same hash codes."""

import importlib.util
import sys

import failed_sentences
import pytest
import torch
from stand_in_kernels import kernels, lsh_cumulation, lsh_weighted_cumulation
from transformers.integrations import hub_kernels
from transformers.models.yoso import modeling_yoso

from harness.attentions import transformers_yoso
from harness.core import registry
from harness.core.spec import ModelSpec, OperationSpec
from harness.measure import inputs, verify

PLUGIN = registry.get("transformers_yoso")


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


@pytest.fixture(autouse=True)
def _forget_kernels(monkeypatch):
    """Look the kernels up anew in each test, and restore transformers' global afterwards."""
    monkeypatch.setattr(modeling_yoso, "lsh_cumulation", None)
    transformers_yoso._kernels.cache_clear()
    yield
    transformers_yoso._kernels.cache_clear()


@pytest.fixture
def install(monkeypatch):
    """Make transformers load ``module`` as its kernels, as if the package ``kernels`` were installed.

    ``stored`` is what ``load_cuda_kernels`` stores in transformers' global, ``module`` itself by default.
    """
    find_spec = importlib.util.find_spec

    def install(module, stored=None):
        monkeypatch.setattr(transformers_yoso, "find_spec", lambda name: find_spec("torch"))
        monkeypatch.setattr("transformers.utils.is_kernels_available", lambda: True)
        monkeypatch.setattr(hub_kernels, "get_kernel", lambda name, version: module)
        monkeypatch.setattr(
            modeling_yoso,
            "load_cuda_kernels",
            lambda: setattr(modeling_yoso, "lsh_cumulation", stored or module),
        )
        return module

    return install


@pytest.fixture
def on_cuda(monkeypatch):
    """A case on a CUDA device that seems to be there."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    return make(device="cuda")


def failures(spec):
    return failed_sentences.of(verify.check(PLUGIN, spec, PLUGIN.build(spec), inputs.make(spec)))


@pytest.mark.parametrize("padding", [0.0, 0.25])
def test_it_equals_its_oracle(install, padding):
    install(kernels())
    assert failures(make(padding=padding)) == []


def drops_the_last_tokens(query_mask, *rest):
    out = lsh_cumulation(query_mask, *rest)
    out[:, -4:] = 0
    return out


def ignores_the_sign_of_weights(query_mask, query_code, query_weight, *rest):
    return lsh_weighted_cumulation(query_mask, query_code, query_weight.abs(), *rest)


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"lsh_cumulation": drops_the_last_tokens}, "output"),
        ({"lsh_weighted_cumulation": ignores_the_sign_of_weights}, "grad_q"),
    ],
)
def test_wrong_kernels_fail_verification(install, changed, what):
    install(kernels(**changed))
    reasons = failures(make())
    assert any(what in reason for reason in reasons), reasons


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dtype": "bfloat16"}, "dtype must be float32, got bfloat16"),
        ({"head_dim": 48}, "head_dim must be 32, 64, 128 or 256, got 48"),
        ({"seq_len": 100}, "seq_len must be a multiple of 8, otherwise tokens are skipped; got 100"),
        (
            {"seq_len": 8, "knobs": {"num_hash": 8}},
            "seq_len must be a multiple of 32, otherwise tokens are skipped; got 8",
        ),
        ({"seq_len": 65536, "mode": "forward"}, "seq_len must be below 65536, got 65536"),
        ({"knobs": {"num_hash": 48}}, "num_hash must be 1 to 32 or a multiple of 32, got 48"),
        ({"knobs": {"hash_code_len": 14}}, "hash_code_len must be 1 to 13, got 14"),
        (
            {"batch": 8, "heads": 8, "knobs": {"hash_code_len": 15}, "mode": "forward"},
            "must have fewer than 2^31 numbers, got 2147483648",
        ),
    ],
)
def test_sizes_that_the_kernels_compute_wrongly_are_unsupported(changes, words):
    assert any(words in reason for reason in PLUGIN.unsupported(make(**changes)))


def test_on_a_cpu_the_device_is_the_only_reason():
    expected = ["the kernels of YOSO's authors run on CUDA, not on cpu"]
    assert PLUGIN.unsupported(make()) == expected
    model = ModelSpec(attention="transformers_yoso", seq_len=64, hidden_size=64, heads=2)
    assert PLUGIN.unsupported(model) == expected


def test_with_kernels_a_cuda_case_is_supported(install, on_cuda):
    module = install(kernels())
    assert PLUGIN.unsupported(on_cuda) == []
    assert transformers_yoso._kernels() is module
    assert PLUGIN.kernel(on_cuda) == "kernels-community/yoso, loaded by transformers, on cuda"


def test_the_whole_module_is_used_if_transformers_stores_one_function_of_it(install, on_cuda):
    """transformers 5.23 stores the function ``lsh_cumulation`` of the downloaded module, not the module."""
    module = install(kernels(), stored=lsh_cumulation)
    assert PLUGIN.unsupported(on_cuda) == []
    assert transformers_yoso._kernels() is module
    assert failures(make()) == []


def test_without_the_package_nothing_is_loaded_and_the_reason_says_how_to_install_it(monkeypatch, on_cuda):
    loads = []
    monkeypatch.setattr(modeling_yoso, "load_cuda_kernels", lambda: loads.append("load_cuda_kernels"))
    monkeypatch.setattr(hub_kernels, "get_kernel", lambda *args, **kwargs: loads.append("get_kernel"))
    monkeypatch.setitem(sys.modules, "kernels", None)
    (reason,) = PLUGIN.unsupported(on_cuda)
    assert reason.endswith("the package 'kernels', which is missing: pip install kernels")
    with pytest.raises(RuntimeError, match="pip install kernels"):
        PLUGIN.build(on_cuda)
    assert loads == []


def test_a_version_that_transformers_does_not_accept_is_not_used(monkeypatch, install, on_cuda):
    install(kernels())
    monkeypatch.setattr("transformers.utils.is_kernels_available", lambda: False)
    monkeypatch.setattr(transformers_yoso, "version", {"transformers": "5.23.0", "kernels": "0.9.0"}.get)
    (reason,) = PLUGIN.unsupported(on_cuda)
    assert "transformers 5.23.0 does not accept the installed version 0.9.0 of the package 'kernels'" in reason
    assert reason.endswith("pip install 'transformers[kernels]'")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionError("no route to huggingface.co\nmore lines"), "(ConnectionError: no route to huggingface.co);"),
        (FileNotFoundError("no build variant"), "(FileNotFoundError: no build variant);"),
        (AssertionError(), "(AssertionError: );"),
    ],
)
def test_any_error_while_loading_is_a_reason(monkeypatch, install, on_cuda, error, words):
    def fail():
        raise error

    install(kernels())
    monkeypatch.setattr(modeling_yoso, "load_cuda_kernels", fail)
    (reason,) = PLUGIN.unsupported(on_cuda)
    assert words in reason
    assert "https://huggingface.co/kernels-community/yoso" in reason


def test_a_module_without_the_functions_is_not_used(install, on_cuda):
    install(object())
    (reason,) = PLUGIN.unsupported(on_cuda)
    assert "the loaded module lacks one of the functions fast_hash, lsh_cumulation, lsh_weighted_cumulation" in reason
