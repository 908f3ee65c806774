"""The code of docs/transformers.md that needs no download runs, and what its table refuses is refused."""

import io
import re
import warnings
from pathlib import Path

import pytest
import torch
from model_pairs import SMALL, make_yoso, tokens

import yoso

PAGE = Path(__file__).parents[2] / "docs/transformers.md"
FIRST_SECTION = "## YOSO checkpoints, Auto classes and pipelines"
IDS = tokens(1, 12, vocab_size=60)


def test_the_code_on_checkpoints_and_onnx_runs(tmp_path, monkeypatch, capsys):
    pytest.importorskip("onnxscript", reason="pip install onnx onnxscript")
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text[text.index(FIRST_SECTION) :], re.DOTALL)
    assert len(blocks) == 2
    names = {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for block in blocks:
                exec(compile(block, PAGE.name, "exec"), names)
    finally:
        yoso.unregister()
    assert (tmp_path / "model.onnx").stat().st_size


@pytest.mark.parametrize("attention", ["yoso_e", "yoso"])
def test_what_the_table_calls_impossible_is_an_error(attention):
    model = make_yoso(**SMALL, attn_implementation=attention)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(RuntimeError, match="unrecognized namespace yoso"):
            torch.onnx.export(model, (IDS,), io.BytesIO(), dynamo=False)
        with pytest.raises(OSError, match="YosoConfig"):
            torch.jit.script(model)
