import pytest

from harness.core import registry
from harness.core.record import Ceiling
from harness.core.spec import ModelSpec, OperationSpec
from harness.measure import ceilings


def test_a_cpu_has_the_ceilings_of_its_kernels():
    measured = {ceiling.name: ceiling for ceiling in ceilings.measure("cpu")}
    assert set(measured) == {"copy", "matmul float32", "vector float32"}
    for ceiling in measured.values():
        assert len(ceiling.seconds) == ceilings.SAMPLES
        assert ceiling.reason is None
        assert 1e8 < ceiling.amount / min(ceiling.seconds) < 1e15


def test_a_ceiling_that_cannot_be_measured_has_a_reason(monkeypatch):
    def out_of_memory(device, *rest):
        raise RuntimeError("no memory\nand a stack")

    monkeypatch.setattr(ceilings, "_copy", out_of_memory)
    copy = ceilings.measure("cpu")[0]
    assert (copy.seconds, copy.reason) == ([], "RuntimeError: no memory")


def test_a_ceiling_without_samples_needs_a_reason():
    with pytest.raises(ValueError, match="needs a reason"):
        Ceiling(name="copy", device="cpu", unit="byte", amount=1.0, seconds=[])


def cost(name, **changes):
    spec = OperationSpec(**({"attention": name, "seq_len": 1024, "heads": 2} | changes))
    return registry.get(name).cost(spec)


def test_softmax_costs_two_matrix_products_forward_and_seven_with_backward():
    pairs = 2 * 1024 * 1024
    forward, both = (cost("sdpa", mode=mode) for mode in ("forward", "forward_backward"))
    assert forward["matmul float32"] == 2 * 2 * 64 * pairs
    assert both["matmul float32"] == 3.5 * forward["matmul float32"]
    assert forward["copy"] == 4 * 2 * 1024 * 64 * 4
    assert cost("sdpa") == cost("softmax") == cost("xformers_flash2")


def test_the_expectation_also_costs_the_probability_of_every_pair():
    assert cost("yoso_e")["vector float32"] == 22 * 2 * 1024 * 1024
    assert {name: cost("yoso_e")[name] for name in cost("sdpa")} == cost("sdpa")
    assert cost("transformers_yoso_e") == cost("yoso_e")


def test_hadamard_hashing_costs_butterflies_on_vector_units_or_a_product_on_matrix_units():
    knobs = {"num_hash": 32, "hash_code_len": 12}
    narrow = {"device": "cuda", "dtype": "bfloat16", "knobs": knobs}
    product = cost("yoso", **narrow)
    assert product["matmul bfloat16"] == 2 * 2 * (2 * 1024) * 32 * 12 * 64
    assert product == cost("yoso", **narrow | {"knobs": knobs | {"hash_family": "gaussian"}})
    for changes in ({"device": "cuda", "dtype": "float32"}, {"device": "cpu", "dtype": "bfloat16"}):
        butterflies = cost("yoso", **narrow | changes)
        assert not any(name.startswith("matmul") for name in butterflies)
        assert butterflies["vector float32"] - product["vector float32"] == 2 * (2 * 1024) * 14 * 64 * 7


@pytest.mark.parametrize("mode", ["forward", "forward_backward"])
@pytest.mark.parametrize("family", ["gaussian", "hadamard", "hadamard_authors"])
def test_the_cost_of_sampling_is_linear_in_the_length(mode, family):
    knobs = {"hash_family": family}
    short, long = (
        cost("yoso", seq_len=n, mode=mode, knobs=knobs | {"hash_code_len": tau}) for n, tau in ((1024, 10), (2048, 11))
    )
    assert set(short) == set(long)
    assert all(2 * short[name] <= long[name] < 2.3 * short[name] for name in short)
    assert ("matmul float32" in short) == (family == "gaussian" or mode == "forward_backward")


@pytest.mark.parametrize(("tau", "rows"), [(13, 1 / 8), (10, 1), (9, 2), (5, 2)])
def test_the_gathers_of_sampling_are_counted(tau, rows):
    """Per position: one value row per colliding pair, or m rows added to bucket sums and m sums read."""
    knobs = {"hash_code_len": tau}
    assert cost("yoso", knobs=knobs)["cache read"] == 2 * 1024 * 32 * rows * 64 * 4
    both = cost("yoso", knobs=knobs, mode="forward_backward")["cache read"]
    assert both == 2 * 1024 * 32 * (2 * rows + 4 * min(1, rows)) * 64 * 4


@pytest.mark.parametrize(
    ("keys", "operations"), [(1, 6 * 64), (85, 85 * 6 * 64), (86, 8 * 64 * 64), (172, 8 * 64 * 64)]
)
def test_the_gradient_of_buckets_with_many_keys_uses_moments(keys, operations):
    """A query costs 6 d per key in its bucket, or 8 d^2 for any number of keys, whichever is less."""
    n = 16 * keys
    both = cost("yoso", seq_len=n, knobs={"hash_code_len": 4}, mode="forward_backward")
    assert both["matmul float32"] == operations * 2 * n * 32


def test_models_have_no_cost():
    for name in registry.names():
        assert registry.get(name).cost(ModelSpec(attention=name, seq_len=64)) is None
