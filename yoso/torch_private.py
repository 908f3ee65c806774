"""Every private name of torch that this project uses, each under a name that says what it does.

No other module of ``yoso``, ``harness`` or ``suites`` may use a private name of torch: where a torch release renames or
removes one, this is the only file to change (``tests/operators/test_torch_private.py`` checks it). Each comment says
what the name is needed for and what public API is missing. Names that a call of an operator needs are plain aliases, so
that they cost nothing; whatever takes long to import is imported in the function that needs it.
"""

import sys
import warnings
from collections.abc import Iterable
from contextlib import AbstractContextManager
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn
from torch._functorch.utils import enable_single_level_autograd_function
from torch._library.utils import fill_defaults
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd import forward_ad
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

__all__ = [
    "DispatchObserver",
    "active_modes",
    "allow_forward_mode_gradients",
    "apply_at_current_transform",
    "argument_names",
    "backward_is_running",
    "below_autograd",
    "child_module",
    "clear_cublas_workspaces",
    "compile_elementwise_kernel",
    "compile_seconds",
    "cpu_allocations",
    "fill_default_arguments",
    "forward_mode_is_active",
    "has_kernel",
    "import_inductor",
    "inside_functorch_transform",
    "is_compiled",
    "is_fake",
    "operator_schema",
    "profiler_events",
    "sdpa_backend_number",
    "tree_leaves",
    "values_are_readable",
    "with_values",
]

# --- Operators and their gradients -----------------------------------------------------------------------------------

# Whether torch.vmap, torch.func.grad or another transform is active. The operators take shorter paths where none is.
# No public equivalent; torch.compile traces this name since https://github.com/pytorch/pytorch/pull/134889.
inside_functorch_transform = torch._C._are_functorch_transforms_active

# (operator, dispatch key) -> whether a kernel is registered for exactly this key. The public torch.library.get_kernel
# (https://github.com/pytorch/pytorch/pull/158393) does not tell: it also returns the kernel that serves every device.
has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key

# The names from here to apply_at_current_transform are what torch.library.register_autograd does, written out: the
# autograd.Function that it generates is refused under torch.func.grad and torch.vmap, up to torch 2.13
# (https://github.com/pytorch/pytorch/issues/168393, https://github.com/pytorch/pytorch/issues/170834; the fix is
# https://github.com/pytorch/pytorch/pull/184974).

# Context manager: calls of an operator go to the kernels below autograd. No public equivalent.
below_autograd = torch._C._AutoDispatchBelowAutograd

# (schema, args, kwargs) -> (args, kwargs), complete: the dispatcher drops trailing arguments that equal their default
# (https://github.com/pytorch/pytorch/issues/121917). This is register_autograd's own function
# (https://github.com/pytorch/pytorch/pull/124852); no public equivalent.
fill_default_arguments = fill_defaults

# (enabled) -> context manager that switches the recording of forward-mode gradients, which torch.enable_grad does not.
# No public equivalent.
allow_forward_mode_gradients = forward_ad._set_fwd_grad_enabled


def operator_schema(overload: Any) -> Any:
    """The schema of an operator overload, which ``fill_default_arguments`` takes. No public equivalent."""
    return overload._schema


def apply_at_current_transform(function: type[torch.autograd.Function], args: tuple[Any, ...]) -> Any:
    """Apply an autograd function for the functorch transform that is being handled, as torch's own operators are.

    ``Function.apply`` would handle all transforms at once and never dispatch to the operator's vmap rule. No public
    equivalent: see the issues on ``register_autograd`` above.
    """
    with enable_single_level_autograd_function():
        return super(torch.autograd.Function, function).apply(*args)  # type: ignore[misc]


def forward_mode_is_active() -> bool:
    """Whether the call is inside ``torch.autograd.forward_ad.dual_level``. No public equivalent."""
    return forward_ad._current_level >= 0


def is_fake(x: Tensor) -> bool:
    """Whether x has no values because of ``FakeTensorMode``. No public equivalent."""
    return isinstance(x, FakeTensor)


def with_values() -> AbstractContextManager[Any]:
    """A context whose new tensors have values inside ``FakeTensorMode`` and exports too. No public equivalent."""
    return _disable_current_modes()


def values_are_readable(x: Tensor) -> bool:
    """Whether Python may branch on the values of x.

    It may not where x has none (the meta device, ``FakeTensorMode``), where it stands for several tensors
    (``torch.vmap``), or where the branch would be recorded for all later inputs (``torch.compile``,
    ``torch.jit.trace``). No public equivalent covers all of these.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or inside_functorch_transform():
        return False
    return x.device.type != "meta" and not is_fake(x)


# --- Modules ---------------------------------------------------------------------------------------------------------


def child_module(module: nn.Module, name: str) -> nn.Module | None:
    """The submodule of this name, or None; looked up in every call of a layer.

    The public ``get_submodule`` and ``getattr`` raise where there is none, which takes far longer than this look-up.
    """
    return module._modules.get(name)


def is_compiled(module: nn.Module) -> bool:
    """Whether ``torch.compile`` wraps this module, its ``forward`` or a function that it holds.

    No public equivalent: https://github.com/pytorch/pytorch/issues/146964 asks for one.
    """
    attributes = [module.forward, *vars(module).values()]
    return (
        "_orig_mod" in module._modules
        or module._compiled_call_impl is not None
        or any(hasattr(attribute, "_torchdynamo_orig_callable") for attribute in attributes)
    )


# --- Observing the operations of a call ------------------------------------------------------------------------------

# tree_leaves: the tensors in whatever an operation returns. https://github.com/pytorch/pytorch/issues/65761 asks for a
# public module, https://github.com/pytorch/pytorch/pull/175082 proposes one.


class DispatchObserver(TorchDispatchMode):
    """A mode whose ``__torch_dispatch__`` sees every operation that torch dispatches.

    TorchDispatchMode is documented (https://github.com/pytorch/pytorch/pull/110073), but under its private module only.
    ``_should_skip_dynamo`` would wrap the method so that torch.compile does not compile it, for which the first
    operation imports all of torch.compile, almost a second. An observed call is not compiled.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False


def backward_is_running() -> bool:
    """Whether autograd is executing a backward pass in this thread.

    No public equivalent up to torch 2.13; https://github.com/pytorch/pytorch/pull/141276 proposes one.
    """
    return torch._C._current_graph_task_id() != -1


def argument_names(operation: Any) -> list[str]:
    """The names of an operation's arguments, in order; empty for a higher-order operation, which has no schema.

    No public equivalent.
    """
    schema = getattr(operation, "_schema", None)
    return [] if schema is None else [argument.name for argument in schema.arguments]


def active_modes() -> int:
    """How many modes see every call of a torch function or operator in this thread; a default device is one of them.

    No public equivalent.
    """
    return int(torch._C._len_torch_function_stack() + torch._C._len_torch_dispatch_stack())


# --- Profiler --------------------------------------------------------------------------------------------------------


def profiler_events(profiler: torch.profiler.profile) -> Iterable[Any]:
    """The raw events of a ``torch.profiler.profile`` that has ended.

    ``profiler.events()`` has neither the correlation number that joins a kernel to its launch nor a way to tell a
    kernel from an annotation of the user. No public equivalent.
    """
    return profiler.profiler.kineto_results.events()  # type: ignore[union-attr]


def cpu_allocations(profiler: torch.autograd.profiler.profile) -> list[tuple[int, int, int]]:
    """Start in ns, address and bytes (negative: released) of every allocation and release on the CPU.

    Args:
        profiler: one that has ended and was made with ``use_kineto=True, profile_memory=True``.

    Returns:
        In the order of the event tree, which is not quite that of their start.

    The public ``events()`` sums allocations by operation and loses their order and addresses, and making its objects
    takes seconds in a call of many small operations. No public equivalent.
    """
    from torch._C._profiler import _ExtraFields_Allocation

    allocations: list[tuple[int, int, int]] = []
    assert profiler.kineto_results is not None
    pending = profiler.kineto_results.experimental_event_tree()[::-1]
    while pending:
        event = pending.pop()
        pending.extend(event.children[::-1])  # reversed, because the last one is taken first: ties keep their order
        fields = event.extra_fields
        if isinstance(fields, _ExtraFields_Allocation) and fields.device.type == "cpu":
            allocations.append((event.start_time_ns, fields.ptr, fields.alloc_size))
    return allocations


def clear_cublas_workspaces() -> None:
    """Give the workspaces of cuBLAS back to torch's CUDA allocator; the next matrix products allocate them again.

    Torch allocates one per thread and stream at the first matrix product and keeps it (up to 32 MiB,
    https://docs.pytorch.org/docs/stable/notes/cuda.html#cublas-workspaces). No public equivalent.
    """
    torch._C._cuda_clearCublasWorkspaces()


# --- Compilers -------------------------------------------------------------------------------------------------------


def compile_seconds() -> float:
    """Seconds that ``torch.compile`` has worked in this process, forward and backward graphs; 0 if it never did.

    Torch counts them itself (https://github.com/pytorch/pytorch/pull/130611); no public equivalent. The module is not
    imported for it: that takes seconds, and where it is not loaded nothing was compiled.
    """
    dynamo = sys.modules.get("torch._dynamo.utils")
    return 0.0 if dynamo is None else float(dynamo.calculate_time_spent()["total_wall_time"])


def import_inductor() -> None:
    """Import inductor without the deprecation warning of its own import.

    Up to torch 2.13 the import scripts a class with TorchScript, which is deprecated
    (https://github.com/pytorch/pytorch/pull/189914), and where warnings are errors the first compilation would fail. No
    public function imports it.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`torch.jit.script_method` is deprecated")
        import_module("torch._inductor.compile_fx")


def compile_elementwise_kernel(source: str) -> Any:
    """A CUDA kernel that computes ``source``, a C++ function template of one element, for every element of a tensor.

    Torch documents the function with its underscore (https://github.com/pytorch/pytorch/pull/76394); no public name.
    """
    return torch.cuda.jiterator._create_jit_fn(source)


def sdpa_backend_number(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None) -> int:
    """The number of the backend that ``scaled_dot_product_attention`` would take, a ``SDPBackend``'s value.

    No public equivalent: ``torch.nn.attention.sdpa_kernel`` restricts the choice and does not tell it.
    """
    return int(torch.ops.aten._fused_sdp_choice(query, key, value, attn_mask))
