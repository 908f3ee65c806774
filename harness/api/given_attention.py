"""A function or module that the user gives to ``harness.compare``, as a plugin of the harness.

A function of the user knows no contract, so the plugin asks it: whether it takes a padding mask is read from its
signature, and whether it can run at another size than those of the comparison is tried out, because a function may be
written for one head size only. A plugin that the user gives is measured as it is, under the name of the comparison.
"""

import copy
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from harness.core.attention_shape import device_reasons
from harness.core.plugin import AttentionPlugin, torch_dtype
from harness.core.record_text import exception_text
from harness.core.spec import OperationSpec, QualitySpec, Scalar, Spec
from harness.measure.sampled_rows import OracleFailure

AttentionFunction = Callable[..., Any]
"""``(q, k, v) -> output`` or ``(q, k, v, key_padding_mask) -> output``, also an ``nn.Module``."""
MASK_NAMES = ("key_padding_mask", "padding_mask", "mask")
"""What a parameter with the padding mask may be called. An ``attn_mask`` is none: it has a value per query and key."""
EXPECTED = "(q, k, v) or (q, k, v, key_padding_mask)"
LIKE = "the definition given as like"
"""What messages call the user's function of ``like``."""
_TENSORS = 3


@dataclass(frozen=True)
class GivenFunction:
    """A callable of the user, and how it takes the padding mask.

    Attributes:
        function: the callable.
        mask: whether the padding mask is passed by position, by the name of its parameter, or not at all (None).
    """

    function: AttentionFunction
    mask: Literal["by position"] | str | None

    @classmethod
    def of(cls, what: str, function: object) -> "GivenFunction":
        """The callable with what its signature says.

        Args:
            what: what the error message calls it.
            function: what the user gave.

        Raises:
            ValueError: it is not callable, or has another signature.
        """
        if isinstance(function, type):
            raise ValueError(
                f"{what} must be ready to be called, got the class {function.__name__}; give an object of it"
            )
        if not callable(function):
            raise ValueError(
                f"{what} must be a function {EXPECTED}, an nn.Module or an AttentionPlugin, got "
                f"{type(function).__name__} {_short(function)}"
            )
        if isinstance(function, nn.Module):
            _check_can_be_copied(what, function)
        try:
            signature = inspect.signature(function.forward if isinstance(function, nn.Module) else function)
        except (TypeError, ValueError):  # a builtin, whose fourth parameter could be anything
            return cls(function, None)
        return cls(function, _mask_of(what, signature))

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None) -> Any:
        """Call the function, with the mask where it takes one."""
        if self.mask is None:
            return self.function(q, k, v)
        if self.mask == "by position":
            return self.function(q, k, v, key_padding_mask)
        return self.function(q, k, v, **{self.mask: key_padding_mask})

    def at(self, device: torch.device | str, dtype: torch.dtype) -> "GivenFunction":
        """The same; a module is copied to the device and dtype, so that the user's own is unchanged."""
        if not isinstance(self.function, nn.Module):
            return self
        return GivenFunction(copy.deepcopy(self.function).to(device, dtype), self.mask)


def _check_can_be_copied(what: str, module: nn.Module) -> None:
    """Copy a module and forget the copy.

    Raises:
        ValueError: it cannot be copied.
    """
    try:
        copy.deepcopy(module)
    except Exception as error:
        raise ValueError(
            f"{what} must be a module that can be copied, because compare measures a copy and leaves yours unchanged; "
            f"copy.deepcopy raised {exception_text(error)}; give a function that calls the module"
        ) from error


def _mask_of(what: str, signature: inspect.Signature) -> str | None:
    """How the mask is passed, from the parameters after q, k and v.

    Raises:
        ValueError: another parameter is required, or there are fewer than three.
    """
    parameters = list(signature.parameters.values())
    positional = [each for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    takes_any = any(each.kind is each.VAR_POSITIONAL for each in parameters)
    others = [*positional[_TENSORS:], *(each for each in parameters if each.kind is each.KEYWORD_ONLY)]
    masks = [each for each in others if each.name in MASK_NAMES]
    required = [each.name for each in others if each.default is each.empty and each not in masks[:1]]
    if (len(positional) < _TENSORS and not takes_any) or required:
        hint = f"; give {', '.join(required)} a value with functools.partial or a default" if required else ""
        raise ValueError(f"{what} must take {EXPECTED}, got the signature {signature}{hint}")
    if not masks:
        return None
    return "by position" if masks[0].kind is masks[0].POSITIONAL_ONLY else masks[0].name


@dataclass(frozen=True)
class Definition:
    """What a function is compared with: a registered attention, the user's oracle, or neither.

    ``registered`` is the attention of ``like``, ``oracle`` the user's function of it; of both at most one is there. A
    function without either is its own definition.
    """

    registered: AttentionPlugin | None = None
    oracle: GivenFunction | None = None

    @property
    def is_own(self) -> bool:
        """Whether nothing but the function itself says what is right."""
        return self.registered is None and self.oracle is None


class GivenAttention(AttentionPlugin):
    """A function of the user with its definition; see ``harness.compare``.

    Args:
        name: its name in the comparison.
        function: the function.
        definition: what it is compared with.
        estimates: the attention that it approximates; None: none.
        sizes: the cases of the comparison. At other sizes the function is tried before it is verified.
    """

    source = "given to harness.compare"

    def __init__(
        self,
        name: str,
        function: GivenFunction,
        definition: Definition,
        estimates: str | None,
        sizes: frozenset[tuple[int, int, int, int]],
    ) -> None:
        like = definition.registered
        self.name = name
        self.summary = f"{name}, a Python function"
        self.exact_softmax = like is not None and like.exact_softmax
        self.estimates = estimates
        if like is not None and not like.exact_softmax:
            self.estimates = like.estimates or like.name
        self.refusals: list[str] = []
        """Why the function was not verified at other sizes than those of the comparison, one sentence each."""
        self._function = function
        self._definition = definition
        self._sizes = sizes
        self._kernel = f"{name}, a Python function"

    @property
    def is_own_definition(self) -> bool:
        """Whether nothing but the function itself says what is right."""
        return self._definition.is_own

    def default_knobs(self, spec: Spec) -> Mapping[str, Scalar]:
        """Those of the attention of ``like``, because they say which definition the function is compared with."""
        like = self._definition.registered
        return {} if like is None else like.default_knobs(_of(like, spec))

    def unsupported(self, spec: Spec) -> list[str]:
        """A missing device; a mask that the function or its oracle does not take; another size at which it raises."""
        reasons = device_reasons(spec)
        oracle = self._definition.oracle
        if isinstance(spec, OperationSpec) and spec.padding > 0:
            hint = "give it a parameter of that name to measure it with padding"
            if self._function.mask is None:
                reasons.append(f"{self.name} takes no key_padding_mask: {hint}")
            if oracle is not None and oracle.mask is None:
                reasons.append(f"{LIKE} takes no key_padding_mask: {hint}")
        if reasons or not isinstance(spec, OperationSpec) or sizes_of(spec) in self._sizes:
            return reasons
        return self._reasons_of_trial(spec)

    def _reasons_of_trial(self, spec: OperationSpec) -> list[str]:
        """Why the function or its oracle cannot be called at a size that the comparison does not have."""
        shape = (spec.batch, spec.heads, spec.seq_len, spec.head_dim)
        q = torch.zeros(shape, dtype=torch_dtype(spec.dtype), device=spec.device)
        mask = torch.ones(spec.batch, spec.seq_len, dtype=torch.bool, device=spec.device) if spec.padding else None
        try:
            with torch.no_grad():
                self._function.at(q.device, q.dtype)(q, q, q, mask)
                if self._definition.oracle is not None:
                    self._definition.oracle.at(q.device, q.dtype)(q, q, q, mask)
        except Exception as error:
            sizes = f"batch {spec.batch}, {spec.heads} heads of {spec.head_dim}, {spec.seq_len} tokens"
            reason = f"with {sizes} it raises {exception_text(error).rstrip(': ')}"
            if reason not in self.refusals:
                self.refusals.append(reason)
            return [reason]
        return []

    def randomness(self, spec: OperationSpec | QualitySpec) -> str | None:
        """That the function draws random numbers where its definition draws none, for example by dropout.

        None if it does not, or if the definition itself is random or is the function. Call this only after the case
        was measured: it makes calls of its own.
        """
        if self.is_own_definition:
            return None
        generator = torch.Generator().manual_seed(spec.seed)
        q, k, v = (torch.randn(sizes_of(spec), generator=generator).to(spec.device) for _ in range(_TENSORS))
        module, dtype, rows = self.build(spec), torch_dtype(spec.dtype), torch.arange(1, device=spec.device)

        def call() -> Tensor:
            output: Tensor = module(q.to(dtype), k.to(dtype), v.to(dtype), None)
            return output

        if not _is_random(call, spec.device) or _is_random(lambda: self.oracle(spec, q, k, v, None, rows), spec.device):
            return None
        found = "it draws random numbers: a second call with the same inputs gives another result"
        given = self._function.function
        if isinstance(given, nn.Module) and given.training:
            return f"{found}; the module is in training mode, in which dropout is active: .eval() switches it off"
        return found

    def kernel(self, spec: Spec) -> str:
        """The function; the name is the same where it is timed a second time under another name."""
        return f"{self._kernel} on {spec.device}"

    def build(self, spec: Spec) -> nn.Module:
        """The function as a module."""
        return _Module(self._function.at(spec.device, torch_dtype(spec.dtype)))

    def oracle(
        self, spec: Spec, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None, rows: Tensor
    ) -> Tensor:
        """The definition at ``rows``. A function that is its own definition runs in the dtype of the case.

        Raises:
            OracleFailure: the user's function of ``like`` raised an exception.
        """
        like, oracle = self._definition.registered, self._definition.oracle
        if like is not None:
            return like.oracle(_of(like, spec), q, k, v, key_padding_mask, rows)
        if oracle is not None:
            return _result_of_like(oracle, q, k, v, key_padding_mask)[:, :, rows]
        dtype = torch_dtype(spec.dtype)
        own = self._function.at(q.device, dtype)(q.to(dtype), k.to(dtype), v.to(dtype), key_padding_mask)
        return _checked(self.name, own, q).to(q.dtype)[:, :, rows]


class _Module(nn.Module):
    """A function of the user, called as ``AttentionPlugin`` says."""

    def __init__(self, function: GivenFunction) -> None:
        super().__init__()
        self.given = function.function if isinstance(function.function, nn.Module) else None
        self._call = function

    def train(self, mode: bool = True) -> "_Module":
        """Leaves the user's module in its own mode, in which the trial and the definition run as well."""
        self.training = mode
        return self

    def forward(self, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None) -> Any:
        """``[B, H, N, D]`` to ``[B, H, N, D]``."""
        return self._call(q, k, v, key_padding_mask)


def _result_of_like(oracle: GivenFunction, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None) -> Tensor:
    """The output of the definition that the user gave.

    Raises:
        OracleFailure: it raised an exception, or its output has no gradient where q has one.
        ValueError: it returned something else than a tensor like q.
    """
    try:
        output = oracle.at(q.device, q.dtype)(q, k, v, key_padding_mask)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise OracleFailure(f"not verified, and so not timed: {LIKE} raised {exception_text(error)}") from error
    output = _checked(LIKE, output, q)
    if q.requires_grad and torch.is_grad_enabled() and not output.requires_grad:
        raise OracleFailure(
            f"not verified, and so not timed: the output of {LIKE} has no gradient, which a backward pass needs"
        )
    return output


@torch.no_grad()
def _is_random(call: Callable[[], Tensor], device: str) -> bool:
    """Whether a call gives another result from another state of torch's generators, and the same from the same."""
    with torch.random.fork_rng(devices=[device] if torch.device(device).type == "cuda" else []):
        results = []
        for seed in (0, 1, 0):
            torch.manual_seed(seed)
            results.append(call().clone())
    first, other, again = results
    return torch.equal(first, again) and not torch.equal(first, other)


def plugin_under(name: str, given: AttentionPlugin | type[AttentionPlugin]) -> AttentionPlugin:
    """A plugin that the user gave, under the name that it has in the comparison.

    Raises:
        ValueError: it is a class that cannot be made without arguments.
    """
    if isinstance(given, type):
        try:
            given = given()
        except Exception as error:
            raise ValueError(
                f"attentions[{name!r}] must be an AttentionPlugin that is ready, because its class cannot be made "
                f"without arguments: {exception_text(error)}"
            ) from error
    if getattr(given, "name", None) == name:
        return given
    renamed = copy.copy(given)
    renamed.name = name
    return renamed


def sizes_of(spec: OperationSpec | QualitySpec) -> tuple[int, int, int, int]:
    """Batch, heads, length and head size."""
    return spec.batch, spec.heads, spec.seq_len, spec.head_dim


def _of(plugin: AttentionPlugin, spec: Spec) -> Spec:
    return spec.model_copy(update={"attention": plugin.name})


def _checked(what: str, output: object, q: Tensor) -> Tensor:
    if not isinstance(output, Tensor) or output.shape != q.shape:
        received = f"shape {list(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(f"{what} must return a tensor of shape {list(q.shape)}, got {received}")
    return output


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
