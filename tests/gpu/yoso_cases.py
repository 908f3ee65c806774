"""Arguments of every operator on irregular shapes, and the expected results by definition, in float64 on the CPU."""

from dataclasses import astuple, dataclass
from typing import Any

import torch
from torch import Tensor

import yoso.ops  # noqa: F401  defines the operators
from yoso.ops import portable, reference
from yoso.ops.hashing import draw_planes

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
FORWARD = {torch.float32: 2e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}
BACKWARD = {torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 4e-3}
"""Allowed relative Frobenius errors: one rounding to the inputs' dtype, and the rounding of float32 sums."""


@dataclass(frozen=True)
class Shape:
    """Sizes of one attention."""

    batch: int
    heads: int
    num_query: int
    num_key: int
    dim: int
    value_dim: int
    num_hash: int
    tau: int

    def __str__(self) -> str:
        return "-".join(f"{name}{value}" for name, value in zip("bhqkdvmt", astuple(self), strict=True))


SHAPES = [
    Shape(1, 1, 1, 1, 1, 1, 1, 1),
    Shape(1, 1, 7, 7, 48, 48, 8, 4),
    Shape(1, 2, 33, 33, 64, 64, 32, 9),
    Shape(2, 3, 50, 50, 24, 24, 13, 7),
    Shape(2, 1, 100, 70, 100, 40, 70, 16),
    Shape(1, 1, 257, 300, 16, 128, 5, 3),
    Shape(1, 1, 300, 300, 20, 20, 3, 1),
    Shape(1, 1, 129, 129, 256, 256, 33, 8),
    Shape(2, 2, 512, 512, 128, 128, 16, 9),
    Shape(1, 2, 1000, 1000, 64, 64, 32, 10),
    Shape(1, 1, 2000, 2000, 32, 32, 128, 5),
    Shape(2, 8, 300, 200, 64, 100, 3, 4),  # crowded buckets on both sides: gradients by moments
]
MASKS = ("none", "random", "a whole sequence")


@dataclass(frozen=True)
class Case:
    """Tensors on the CPU. Query and key have unit rows; heads are transposed views, as in a model."""

    shape: Shape
    query: Tensor
    key: Tensor
    value: Tensor
    grad: Tensor
    query_codes: Tensor
    key_codes: Tensor
    query_mask: Tensor | None
    key_mask: Tensor | None

    @property
    def masks(self) -> tuple[Tensor | None, Tensor | None]:
        return self.query_mask, self.key_mask

    @property
    def codes(self) -> tuple[Tensor, Tensor]:
        return self.query_codes, self.key_codes

    @property
    def floor(self) -> Tensor:
        """A positive number for each head."""
        batch, heads = self.value.shape[:2]
        return torch.linspace(0.5, 4, batch * heads).reshape(batch, heads)


def make(shape: Shape, dtype: torch.dtype = torch.float32, mask: str = "random") -> Case:
    generator = torch.Generator().manual_seed(shape.num_key + shape.tau)

    def rows(length: int, dim: int) -> Tensor:
        return torch.randn(shape.batch, length, shape.heads, dim, generator=generator).transpose(1, 2)

    def codes(length: int) -> Tensor:
        # The square makes low codes frequent, so that there are both crowded buckets and buckets of one key.
        drawn = torch.rand(shape.batch, shape.heads, shape.num_hash, length, generator=generator)
        return (drawn.square() * 2**shape.tau).to(torch.int32).to(torch.uint16)

    def masked(length: int) -> Tensor | None:
        if mask == "none":
            return None
        is_real = torch.rand(shape.batch, length, generator=generator) > 0.2
        if mask == "a whole sequence":
            is_real[-1] = False
        return is_real

    query, key = (reference.unit(rows(length, shape.dim)).to(dtype) for length in (shape.num_query, shape.num_key))
    value, grad = (rows(length, shape.value_dim).to(dtype) for length in (shape.num_key, shape.num_query))
    lengths = shape.num_query, shape.num_key
    return Case(shape, query, key, value, grad, *(codes(n) for n in lengths), *(masked(n) for n in lengths))


def planes_of(shape: Shape, family: str) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    sizes = {"head_dim": shape.dim, "num_hash": shape.num_hash, "hash_code_len": shape.tau}
    return draw_planes(family, groups=shape.batch * shape.heads, generator=generator, **sizes)


def arguments(name: str, case: Case) -> tuple[Any, ...]:
    """The operator's positional arguments, on the CPU."""
    tau = case.shape.tau
    qkv = (case.query, case.key, case.value)
    return {
        "unit_rows": (case.value,),
        "unit_rows_backward": (case.value.flip(2), case.value),
        "floored_unit_rows": (case.value, case.floor),
        "floored_unit_rows_backward": (case.value.flip(2), case.value, case.floor),
        "lsh_cumulation": (*case.codes, case.value, *case.masks, tau),
        "lsh_attention_backward": (case.grad, *qkv, *case.codes, *case.masks, tau),
        "expectation": (*qkv, *case.masks, tau),
        "expectation_backward": (case.grad, *qkv, *case.masks, tau),
        "expectation_backward, exact": (case.grad, *qkv, *case.masks, tau, True),
    }[name]


OPERATORS = (
    "unit_rows",
    "unit_rows_backward",
    "floored_unit_rows",
    "floored_unit_rows_backward",
    "lsh_cumulation",
    "lsh_attention_backward",
    "expectation",
    "expectation_backward",
    "expectation_backward, exact",
)


def truth(name: str, case: Case) -> tuple[Tensor, ...]:
    """The expected results, in float64 on the CPU."""
    tau = case.shape.tau
    query, key, value, grad = (x.double().requires_grad_() for x in (case.query, case.key, case.value, case.grad))
    if name.startswith("unit_rows"):
        out = reference.unit(value)
        return (out,) if name == "unit_rows" else torch.autograd.grad(out, value, case.value.flip(2).double())
    if name.startswith("floored_unit_rows"):
        floor = case.floor.double().requires_grad_()
        out = reference.floored_unit(value, floor[..., None, None])
        grad = case.value.flip(2).double()
        return (out,) if name == "floored_unit_rows" else torch.autograd.grad(out, (value, floor), grad)
    if name.endswith("exact"):  # the limit at the pole is the operator's choice
        return portable.expectation_backward(*_double(arguments(name, case)))
    if name.startswith("lsh"):
        weights = reference.collision_fraction(*case.codes, torch.float64)
    else:
        weights = reference.collision_probability((reference.unit(query) @ reference.unit(key).mT).detach(), tau)
    rows = reference.unit(query), reference.unit(key)  # the operators scale rows to length 1 themselves
    out = reference.weighted_sum(weights, *rows, value, *case.masks, tau)
    if name in ("lsh_cumulation", "expectation"):
        return (out,)
    return torch.autograd.grad(out, (query, key, value), grad)


def run(name: str, case: Case, device: str) -> tuple[Tensor, ...]:
    """Run the operator on ``device``."""
    out = operator(name)(*on(device, arguments(name, case)))
    return out if isinstance(out, tuple) else (out,)


def operator(name: str) -> Any:
    return getattr(torch.ops.yoso, name.partition(",")[0])


def on(device: str, values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Copy the tensors among ``values`` to ``device``, with their strides."""
    return tuple(
        torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=device).copy_(x) if isinstance(x, Tensor) else x
        for x in values
    )


def _double(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(x.double() if isinstance(x, Tensor) and x.is_floating_point() else x for x in values)


def assert_near(actual: Tensor, expected: Tensor, allowed: float, scale: float = 0.0) -> None:
    """Assert a relative Frobenius error of at most ``allowed``; the error is relative to at least ``scale``."""
    actual, expected = actual.detach().cpu().double(), expected.detach().cpu().double()
    assert actual.shape == expected.shape
    assert actual.isfinite().all(), "some elements are not finite"
    error = (actual - expected).norm().item()
    size = max(expected.norm().item(), scale)
    assert error <= allowed * size, f"error {error:.3g} for norm {size:.3g}: more than {allowed:.3g} of it"
