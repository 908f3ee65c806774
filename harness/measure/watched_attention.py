"""Records the attention calls of a model: what each layer gave the attention, what came back, and the gradients."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel

from harness.measure.inputs import Inputs


@dataclass
class WatchedCall:
    """One call of the attention by one layer. Tensors are copies; those of a backward pass are there after it.

    ``query``, ``key``, ``value`` and ``output`` are ``[B, H, N, D]``. ``gradients`` are by name, as those of
    ``harness.measure.sampled_rows``; an attention that ignores an argument gives it none.
    """

    layer: nn.Module
    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None
    arguments: dict[str, Any]
    generator: Tensor
    function: Any
    output: Tensor = field(init=False)
    upstream: Tensor | None = None
    gradients: dict[str, Tensor] = field(default_factory=dict)

    def inputs(self) -> Inputs:
        """The inputs, with a padding mask ``[B, N]``; without a backward pass the upstream gradient is zero."""
        upstream = torch.zeros_like(self.output) if self.upstream is None else self.upstream
        return Inputs(self.query, self.key, self.value, _key_padding_mask(self.mask), upstream)

    def repeat(self, inputs: Inputs) -> Tensor:
        """Call the attention again, from the same state of torch's generator, on these q, k and v."""
        torch.set_rng_state(self.generator)
        mask = None if self.mask is None else self.mask.clone()
        output: Tensor = self.function(self.layer, inputs.q, inputs.k, inputs.v, mask, **self.arguments)[0]
        return output.transpose(1, 2)


@contextmanager
def watched(model: PreTrainedModel) -> Iterator[list[WatchedCall]]:
    """Record every attention call of the model inside the block, in the order of the calls.

    A model that contains its own attention, instead of looking it up by name, gives an empty list.
    """
    name = model.config._attn_implementation
    registered = AttentionInterface()
    calls: list[WatchedCall] = []
    if name not in registered:
        yield calls
        return
    function = registered[name]

    def watch(
        layer: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None = None, **rest: Any
    ) -> tuple[Tensor, Tensor | None]:
        with torch.inference_mode(False):  # tensors of inference mode could not be used outside it
            q, k, v = (x.detach().clone() for x in (query, key, value))
            mask = None if attention_mask is None else attention_mask.clone()
        call = WatchedCall(layer, q, k, v, mask, rest, torch.get_rng_state(), function)
        calls.append(call)
        if torch.is_grad_enabled() and query.requires_grad:
            # Views of their own: the layer may use q, k and v for more than the attention.
            query, key, value = (x.view_as(x) for x in (query, key, value))
            for gradient, x in (("grad_q", query), ("grad_k", key), ("grad_v", value)):
                x.register_hook(_keep(call.gradients, gradient))
        output, weights = function(layer, query, key, value, attention_mask, **rest)
        with torch.inference_mode(False):
            call.output = output.detach().clone().transpose(1, 2)
        if output.requires_grad:
            output.register_hook(lambda gradient: _keep_upstream(call, gradient))
        return output, weights

    AttentionInterface.register(name, watch)
    try:
        yield calls
    finally:
        AttentionInterface.register(name, function)


def _keep(gradients: dict[str, Tensor], name: str) -> Any:
    def hook(gradient: Tensor) -> None:
        gradients[name] = gradient.detach().clone()

    return hook


def _keep_upstream(call: WatchedCall, gradient: Tensor) -> None:
    call.upstream = gradient.detach().clone().transpose(1, 2)


def _key_padding_mask(mask: Tensor | None) -> Tensor | None:
    """bool ``[B, N]`` from it or from transformers' ``[B, 1, N, N]``, whose rows are equal in an encoder."""
    if mask is None or mask.dim() == 2:
        return mask
    row = mask[:, 0, 0]
    return row if row.dtype == torch.bool else row == 0
