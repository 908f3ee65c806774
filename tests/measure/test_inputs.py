import pytest
import torch

from harness.core.spec import OperationSpec, QualitySpec
from harness.measure import inputs


def spec_of(**changes):
    return OperationSpec(**({"attention": "softmax", "seq_len": 10, "heads": 2} | changes))


def test_the_inputs_depend_only_on_the_seed():
    torch.manual_seed(1)
    one = inputs.make(spec_of(seed=5))
    torch.manual_seed(2)
    two = inputs.make(spec_of(seed=5))
    other = inputs.make(spec_of(seed=6))
    for name in ("q", "k", "v", "grad"):
        assert torch.equal(getattr(one, name), getattr(two, name))
        assert not torch.equal(getattr(one, name), getattr(other, name))


def test_a_dtype_rounds_the_same_numbers():
    full, half = inputs.make(spec_of()), inputs.make(spec_of(dtype="bfloat16"))
    assert torch.equal(full.q.bfloat16(), half.q)


@pytest.mark.parametrize(("padding", "real"), [(0.25, 8), (0.5, 5), (0.99, 1)])
def test_padding_is_at_the_end_and_leaves_at_least_one_real_token(padding, real):
    mask = inputs.make(spec_of(padding=padding, batch=3)).key_padding_mask
    assert mask.shape == (3, 10)
    assert mask.sum(-1).tolist() == [real] * 3
    assert mask[:, :real].all()


def test_the_mask_is_none_if_nothing_is_padded():
    assert inputs.make(spec_of()).key_padding_mask is None
    assert inputs.make(spec_of(padding=0.01)).key_padding_mask is None
    assert inputs.make(QualitySpec(attention="softmax", seq_len=4)).key_padding_mask is None
