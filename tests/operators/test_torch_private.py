"""Only ``yoso/torch_private.py`` uses private names of torch."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

ROOT = Path(__file__).parents[2]
FILES = sorted(path for package in ("yoso", "harness", "suites") for path in (ROOT / package).rglob("*.py"))
EXEMPT = ROOT / "yoso/torch_private.py"


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


# Private attributes of objects that torch hands out; their use does not show that they belong to torch.
OBJECTS = (nn.Linear(1, 1), torch.Tensor, torch.ops.aten.add.Tensor, torch.autograd.Function, torch.profiler.profile)
PRIVATE_ATTRIBUTES = {name for value in OBJECTS for name in dir(value) if is_private(name)}
# Those of objects that are made later, and attributes without an underscore that torch does not document.
PRIVATE_ATTRIBUTES |= {"_orig_mod", "_torchdynamo_orig_callable", "kineto_results", "experimental_event_tree"}


def names_defined_in(tree: ast.AST) -> Iterator[str]:
    """Names of functions, classes, variables and attributes that a module defines itself."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.Name(id=name, ctx=ast.Store()):
                yield name
            case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                yield name


def is_private_torch_path(path: str) -> bool:
    first, *rest = path.split(".")
    return first == "torch" and any(map(is_private, rest))


def private_torch_names(tree: ast.AST) -> Iterator[str]:
    """Every private torch name that a module uses, as ``line: name``."""
    torch_names = {"torch"}  # local names of torch's modules and of what is imported from them
    attributes = PRIVATE_ATTRIBUTES - set(names_defined_in(tree))
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=aliases):
                for alias in aliases:
                    if alias.name.split(".")[0] == "torch" and alias.asname:
                        torch_names.add(alias.asname)
                    if is_private_torch_path(alias.name):
                        yield f"{node.lineno}: {alias.name}"
            case ast.ImportFrom(module=str(module), names=aliases) if module.split(".")[0] == "torch":
                for alias in aliases:
                    torch_names.add(alias.asname or alias.name)
                    if is_private_torch_path(f"{module}.{alias.name}"):
                        yield f"{node.lineno}: {module}.{alias.name}"
            case ast.Constant(value=str(text)) if re.fullmatch(r"[\w.]+", text):
                if text in attributes or is_private_torch_path(text):
                    yield f"{node.lineno}: {text!r}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            belongs_to_torch = is_private(node.attr) and ast.unparse(node).split(".")[0] in torch_names
            if belongs_to_torch or node.attr in attributes:
                yield f"{node.lineno}: {ast.unparse(node)}"


def test_no_other_module_uses_a_private_torch_name():
    used = {
        str(path.relative_to(ROOT)): names
        for path in FILES
        if path != EXEMPT and (names := list(private_torch_names(ast.parse(path.read_text(encoding="utf-8")))))
    }
    assert not used, f"private names of torch belong into yoso/torch_private.py: {used}"


@pytest.mark.parametrize(
    "code",
    [
        "import torch\ntorch._C._dispatch_keys(x)",
        "import torch._dynamo",
        "from torch import _dynamo",
        "from torch._inductor import config",
        "from torch.autograd.forward_ad import _set_fwd_grad_enabled",
        "from torch.autograd import forward_ad\nforward_ad._current_level",
        "import torch.autograd.forward_ad as forward\nforward._current_level",
        "import torch\ntorch.ops.aten._fused_sdp_choice(q, k, v)",
        "import_module('torch._inductor.compile_fx')",
        "operator.default._schema",
        "getattr(operator, '_schema')",
        "module._modules.get(name)",
        "'_orig_mod' in vars(module)",
        "profiler.profiler.kineto_results.events()",
    ],
)
def test_each_way_to_use_a_private_name_is_found(code):
    assert list(private_torch_names(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    [
        "import torch\ntorch.__version__",
        "from yoso.torch_private import child_module\nchild_module(module, name)",
        "import torch\n'''Unlike torch._dynamo.reset, this is public.'''\ntorch.compiler.reset()",
        "self._rows = rows\nself._rows.sort()",
        "config._attn_implementation",
    ],
)
def test_public_names_and_those_of_others_are_allowed(code):
    assert not list(private_torch_names(ast.parse(code)))


def test_every_listed_name_exists():
    from yoso import torch_private

    assert [name for name in torch_private.__all__ if not hasattr(torch_private, name)] == []
