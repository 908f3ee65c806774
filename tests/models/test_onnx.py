"""YOSO's operators as torch's own operations, and whole models in ONNX files that onnxruntime runs."""

import warnings

import numpy as np
import pytest
import torch
from model_pairs import SMALL, largest_difference, make_yoso, tokens
from torch import nn

from yoso import yoso_e
from yoso.ops import decompositions, portable
from yoso.ops.hashing import HASH_FAMILIES, draw_planes

QUERY, KEY, VALUE = torch.randn(3, 2, 3, 9, 8, generator=torch.Generator().manual_seed(0)).unbind()
MASK = torch.arange(9) < torch.tensor([[5], [9]])


@pytest.mark.parametrize("num_hash", [3, 20])
@pytest.mark.parametrize("groups", [1, 3, 6])
@pytest.mark.parametrize("family", HASH_FAMILIES)
def test_the_codes_are_those_of_the_operator(family, groups, num_hash):
    sizes = {"num_hash": num_hash, "hash_code_len": 5}
    planes = draw_planes(family, groups=groups, head_dim=8, **sizes, generator=torch.Generator().manual_seed(1))
    x = QUERY * torch.tensor([1e-37, 1.0, 1e37])[:, None, None]
    arguments = x, planes, *sizes.values(), family
    assert torch.equal(decompositions.fast_hash(*arguments), portable.fast_hash(*arguments))


@pytest.mark.parametrize("mask", [None, MASK])
@pytest.mark.parametrize("name", ["lsh_attention", "expectation"])
def test_the_sums_are_those_of_the_operator(name, mask):
    planes = draw_planes("hadamard", groups=6, head_dim=8, num_hash=4, hash_code_len=3)
    codes = [portable.fast_hash(x, planes, 4, 3, "hadamard") for x in (QUERY, KEY)]
    options = (*codes, mask, mask, 3, True) if name == "lsh_attention" else (mask, mask, 3)
    arguments = QUERY, KEY, VALUE, *options
    expected = getattr(torch.ops.yoso, name)(*arguments)
    torch.testing.assert_close(decompositions.DECOMPOSITIONS[name](*arguments), expected)


class Both(nn.Module):
    """Two models in one export, which takes hardly longer than that of one."""

    def __init__(self, **models):
        super().__init__()
        self.models = nn.ModuleDict(models)

    def forward(self, input_ids, attention_mask):
        return {name: model(input_ids, attention_mask).last_hidden_state for name, model in self.models.items()}


def test_an_onnx_file_computes_what_the_models_do_at_any_batch_and_length(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        runtime = pytest.importorskip("onnxruntime", reason="pip install onnxruntime")
        pytest.importorskip("onnxscript", reason="pip install onnx onnxscript")
    sizes = SMALL | {"num_hidden_layers": 1, "num_hash": 4, "conv_window": 3}
    models = {name: make_yoso(**sizes, attn_implementation=name) for name in ("yoso_e", "yoso")}
    ids = tokens(3, 33, vocab_size=60)
    mask = (torch.arange(33) < torch.tensor([[13], [33], [1]])).long()
    dynamic = {name: {0: "batch", 1: "length"} for name in ("input_ids", "attention_mask")}
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            Both(**models), (ids[:2, :20], mask[:2, :20]), dynamic_shapes=dynamic, dynamo=True, verbose=False
        )
    program.save(tmp_path / "model.onnx")
    session = runtime.InferenceSession(tmp_path / "model.onnx")
    inputs = {"input_ids": ids.numpy(), "attention_mask": mask.numpy()}
    outputs, again = (session.run(None, inputs) for _ in range(2))
    for model, output, repeated in zip(models.values(), outputs, again, strict=True):
        assert np.array_equal(output, repeated)
        for row in range(3):
            torch.manual_seed(0)  # the planes in the file are those of a single sequence: one set for each head
            with torch.no_grad():
                expected = model(ids[row, None], mask[row, None]).last_hidden_state[0]
            real = mask[row].bool()
            assert largest_difference(torch.from_numpy(output[row])[real], expected[real]) < 1e-5


def test_the_rescored_estimator_says_why_it_cannot_be_exported(caplog):
    with pytest.raises(NotImplementedError, match=r"estimator='rescored' cannot be exported to ONNX.*'collisions'"):
        decompositions.rescored_attention()
    assert "estimator='rescored'" in caplog.text


@pytest.mark.filterwarnings("ignore:.isinstance.treespec:FutureWarning")  # of torch itself
def test_an_exported_program_is_decomposed_with_the_table():
    class Attention(nn.Module):
        def forward(self, query, key, value):
            return yoso_e(query, key, value, norm_floor=0.1)

    program = torch.export.export(Attention(), (QUERY, KEY, VALUE))
    decomposed = program.run_decompositions(decompositions.TABLE)
    assert "yoso." in str(program.graph)
    assert "yoso." not in str(decomposed.graph)
    torch.testing.assert_close(decomposed.module()(QUERY, KEY, VALUE), yoso_e(QUERY, KEY, VALUE, norm_floor=0.1))
