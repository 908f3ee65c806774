"""What torch and its neighbours do with the models; docs/transformers.md has the table."""

import copy
import io
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from model_pairs import SMALL, largest_difference, make_yoso, tokens
from torch import nn

IDS = tokens(3, 33, vocab_size=60)
MASK = (torch.arange(33) < torch.tensor([[13], [33], [1]])).long()
SIZES = SMALL | {"num_hidden_layers": 1, "num_hash": 4, "conv_window": 3}


def seeded(model, *inputs):
    torch.manual_seed(0)
    with torch.no_grad():
        return model(*inputs)[0]


@pytest.mark.parametrize("family", ["hadamard", "gaussian", None])
def test_an_exported_program_draws_the_planes_of_the_model_at_any_size(family):
    options = {"attn_implementation": "yoso_e"} if family is None else {"hash_family": family, "hash_code_len": 3}
    model = make_yoso(**SIZES | {"use_expectation": False} | options)
    auto = {0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO}
    shapes = {"input_ids": auto, "attention_mask": auto}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(model, (tokens(2, 20, vocab_size=60), torch.ones(2, 20)), dynamic_shapes=shapes)
        file = io.BytesIO()
        torch.export.save(program, file)
        file.seek(0)
        exported = torch.export.load(file).module()
    mask = MASK.float()
    real = MASK.bool()
    assert largest_difference(seeded(exported, IDS, mask)[real], seeded(model, IDS, mask)[real]) < 1e-6


@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated", "ignore:torch.quantize_per_tensor")
@pytest.mark.parametrize("attention", ["yoso_e", "yoso"])
def test_dynamic_quantisation_of_the_linear_layers(attention):
    model = make_yoso(**SIZES, attn_implementation=attention)
    quantised = torch.ao.quantization.quantize_dynamic(copy.deepcopy(model), {nn.Linear}, dtype=torch.qint8)
    assert not any(type(module) is nn.Linear for module in quantised.modules())
    expected = seeded(model, IDS, MASK)[MASK.bool()]
    error = seeded(quantised, IDS, MASK)[MASK.bool()] - expected
    assert error.norm() < 0.2 * expected.norm()


@pytest.mark.parametrize("attention", ["yoso_e", "yoso"])
def test_peft_adapters_are_trained_and_merged(attention):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peft = pytest.importorskip("peft", reason="pip install peft")
        config = peft.LoraConfig(target_modules=["query", "value"], r=4, init_lora_weights=False)
        adapted = peft.get_peft_model(make_yoso(**SIZES, attn_implementation=attention), config).eval()
        outputs = seeded(adapted, IDS, MASK)
        adapted(IDS, MASK).last_hidden_state[..., 0].sum().backward()
        adapters = [parameter for name, parameter in adapted.named_parameters() if "lora_" in name]
        assert adapters
        assert all(parameter.grad.abs().max() > 0 for parameter in adapters)
        merged = adapted.merge_and_unload()
    if attention == "yoso_e":  # a sampled weight changes in steps where rounding moves a sign
        assert largest_difference(seeded(merged, IDS, MASK)[MASK.bool()], outputs[MASK.bool()]) < 1e-4


def test_sharded_and_data_parallel_training_on_two_processes(tmp_path):
    program = Path(__file__).with_name("sharded_training.py")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}  # the program's imports are those of the tests
    command = [sys.executable, program, tmp_path]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
