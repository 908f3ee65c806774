"""Error of an approximate attention against the attention that it estimates, for several draws on the same inputs."""

import torch
from torch import Tensor, nn

from harness.core import registry
from harness.core.plugin import AttentionPlugin
from harness.core.record import Quality
from harness.core.spec import QualitySpec
from harness.measure.inputs import Inputs
from harness.measure.sampled_rows import relative_error, run_module, run_oracle, sample_rows
from harness.measure.verify import ROWS


def errors(plugin: AttentionPlugin, spec: QualitySpec, module: nn.Module, inputs: Inputs) -> Quality:
    """Relative errors of the output and of the input gradients, one per draw of the attention's randomness.

    The reference is the float64 oracle of the attention that ``plugin`` estimates, or its own oracle if it estimates
    none. The reference gets those knobs of ``plugin`` that it also has (for YOSO-E ``hash_code_len``). Draw i is seeded
    with ``spec.seed + i``.

    Raises:
        RegistryError: the estimated attention is unknown.
        FloatingPointError: an error is not a finite number.
    """
    reference = registry.get(plugin.estimates) if plugin.estimates else plugin
    shared = set(reference.default_knobs(spec))
    knobs = {name: value for name, value in plugin.knobs(spec).items() if name in shared}
    rows = sample_rows(inputs, ROWS, spec.seed)
    reference_spec = spec.model_copy(update={"attention": reference.name, "knobs": knobs})
    truth = run_oracle(reference, reference_spec, inputs, rows, torch.float64, backward=True).named()
    draw_errors: dict[str, list[float]] = {name: [] for name in truth}
    deviations: dict[str, list[Tensor]] = {name: [] for name in truth}
    for draw in range(spec.draws):
        _, result = run_module(module, inputs, rows, spec.seed + draw, backward=True)
        for name, value in result.named().items():
            error = relative_error(value, truth[name])
            if not error < float("inf"):
                raise FloatingPointError(f"{name} of draw {draw} is not finite")
            draw_errors[name].append(error)
            deviations[name].append((value.double() - truth[name]).float().cpu())
    biases = {}
    if spec.draws > 1:
        biases = {name: _squared_bias(tensors, truth[name]) for name, tensors in deviations.items()}
    return Quality(
        reference=f"{reference.name}, float64", errors=draw_errors, squared_bias=biases, budget=plugin.budget
    )


def _squared_bias(deviations: list[Tensor], truth: Tensor) -> list[float]:
    """For each draw the mean inner product with the other draws, over the squared norm of ``truth``.

    Draws are independent, so what their deviations have in common is bias.
    """
    drawn = torch.stack(deviations).flatten(1).double()
    products = drawn @ drawn.T
    with_others = products.sum(1) - products.diagonal()
    scale = (len(deviations) - 1) * truth.double().norm().item() ** 2
    return [value / scale for value in with_others.tolist()]
