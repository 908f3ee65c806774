"""Error of an approximate attention against the attention that it estimates, for several draws on the same inputs.

The error says nothing about the attention if the module computes something else than its definition. So the module is
compared with its own oracle at rows that it cannot know, before the errors are measured; and so is one of the measured
draws afterwards, at the rows whose error is reported.
"""

import secrets

import torch
from torch import Tensor, nn

from harness.core import registry
from harness.core.attention_shape import has_backward
from harness.core.plugin import AttentionPlugin
from harness.core.record import Check, Quality
from harness.core.spec import QualitySpec
from harness.measure import recordings
from harness.measure.inputs import Inputs
from harness.measure.sampled_rows import (
    SampledResult,
    WrongShape,
    relative_error,
    run_module,
    run_oracle,
    sample_rows,
)
from harness.measure.verify import ROWS, STRUCTURED_FACTOR, OracleResults, loosened

BUDGET_FACTOR = 4
"""The effect of the budget is tried with so many times less of it, or more where less would be below 1."""
UNCHANGED = 1e-6
"""An output that another budget changes by less than this, relative to the largest output, is unchanged."""
MOST_UNCHANGED = 0.5
"""Allowed share of unchanged outputs."""


def check(plugin: AttentionPlugin, spec: QualitySpec, module: nn.Module, inputs: Inputs) -> list[Check]:
    """Compare the module with its own oracle, at random rows and for a random draw."""
    seed = spec.seed + secrets.randbelow(spec.draws)
    rows_seed = secrets.randbits(32)
    rows = sample_rows(inputs, ROWS, rows_seed)
    try:
        _, result = run_module(module, inputs, rows, seed, has_backward(spec))
    except WrongShape as error:
        return [Check(what=str(error), error=None, allowed=0.0, passed=False)]
    checks = _compare(plugin, spec, inputs, rows, seed, result)
    return [check.model_copy(update={"rows_seed": rows_seed}) for check in checks]


def check_budget(plugin: AttentionPlugin, spec: QualitySpec, inputs: Inputs) -> list[Check] | str:
    """Whether another budget changes the output: the error cannot fall with a budget that has no effect.

    Returns:
        The check, or in one sentence why there is none.
    """
    name = plugin.budget
    if name is None:
        return "it has no budget"
    if spec.seq_len == 1 or spec.head_dim == 1:
        return "of one token, and of heads of one number, every budget may give the same output"
    knobs = plugin.knobs(spec)
    budget = knobs.get(name)
    if isinstance(budget, bool) or not isinstance(budget, int):
        return f"{name} is {budget!r}, which is not a number"
    other = budget // BUDGET_FACTOR or budget * BUDGET_FACTOR
    other_spec = spec.model_copy(update={"knobs": {**spec.knobs, name: other}})
    reasons = plugin.unsupported(other_spec)
    if reasons:
        return f"with {name} {other}: {'; '.join(reasons)}"
    rows = sample_rows(inputs, ROWS, spec.seed)
    outputs = []
    for tried in (spec, other_spec):
        _, result = run_module(plugin.build(tried), inputs, rows, spec.seed, backward=False)
        outputs.append(result.output.double())
    change = (outputs[0] - outputs[1]).abs()
    share = (change <= UNCHANGED * outputs[0].abs().max()).double().mean().item()
    what = f"share of outputs that are the same with {name} {budget} and {other}"
    return [Check(what=what, error=share, allowed=MOST_UNCHANGED, passed=share <= MOST_UNCHANGED)]


def errors(
    plugin: AttentionPlugin, spec: QualitySpec, module: nn.Module, inputs: Inputs
) -> tuple[Quality, list[Check]]:
    """Relative errors of the output and, but for the mode ``forward``, of the input gradients: one per draw of the
    attention's randomness.

    The reference is the float64 oracle of the attention that ``plugin`` estimates, or its own oracle if it estimates
    none. The reference gets those knobs of ``plugin`` that it also has (for YOSO-E ``hash_code_len``). Draw i is seeded
    with ``spec.seed + i``. For recorded inputs the name of the reference also says what was recorded.

    Returns:
        The errors, and the checks of one of the draws, chosen at random, against the oracle of ``plugin`` itself.

    Raises:
        RegistryError: the estimated attention is unknown.
        FloatingPointError: an error is not a finite number.
    """
    reference = registry.get(plugin.estimates) if plugin.estimates else plugin
    shared = set(reference.default_knobs(spec))
    knobs = {name: value for name, value in plugin.knobs(spec).items() if name in shared}
    rows, backward = sample_rows(inputs, ROWS, spec.seed), has_backward(spec)
    reference_spec = spec.model_copy(update={"attention": reference.name, "knobs": knobs})
    truth = run_oracle(reference, reference_spec, inputs, rows, torch.float64, backward).named()
    draw_errors: dict[str, list[float]] = {name: [] for name in truth}
    deviations: dict[str, list[Tensor]] = {name: [] for name in truth}
    verified = secrets.randbelow(spec.draws)
    checks: list[Check] = []
    for draw in range(spec.draws):
        _, result = run_module(module, inputs, rows, spec.seed + draw, backward)
        if draw == verified:
            checks = _compare(plugin, spec, inputs, rows, spec.seed + draw, result, " of a measured draw")
        for name, value in result.named().items():
            error = relative_error(value, truth[name])
            if not error < float("inf"):
                raise FloatingPointError(f"{name} of draw {draw} is not finite")
            draw_errors[name].append(error)
            deviations[name].append((value.double() - truth[name]).float().cpu())
    biases = {}
    if spec.draws > 1:
        biases = {name: _squared_bias(tensors, truth[name]) for name, tensors in deviations.items()}
    of_recording = f" ({recordings.describe(spec)})" if spec.inputs == "recorded" else ""
    measured = Quality(
        reference=f"{reference.name}, float64{of_recording}",
        errors=draw_errors,
        squared_bias=biases,
        budget=plugin.budget,
    )
    return measured, checks


def _compare(
    plugin: AttentionPlugin,
    spec: QualitySpec,
    inputs: Inputs,
    rows: Tensor,
    seed: int,
    result: SampledResult,
    when: str = "",
) -> list[Check]:
    """Compare the result of one draw with the oracle of ``plugin``."""
    checks = OracleResults.of(plugin, spec, inputs, rows, has_backward(spec), seed).compare(result, when)
    return loosened(checks, STRUCTURED_FACTOR)


def _squared_bias(deviations: list[Tensor], truth: Tensor) -> list[float]:
    """For each draw the mean inner product with the other draws, over the squared norm of ``truth``.

    Draws are independent, so what their deviations have in common is bias.
    """
    drawn = torch.stack(deviations).flatten(1).double()
    products = drawn @ drawn.T
    with_others = products.sum(1) - products.diagonal()
    scale = (len(deviations) - 1) * truth.double().norm().item() ** 2
    return [value / scale for value in with_others.tolist()]
