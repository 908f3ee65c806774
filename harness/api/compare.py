"""``harness.compare``: functions and registered attentions, measured under equal conditions, in one call."""

import copy
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from harness.api import call_arguments, given_attention, run_cases
from harness.api.call_arguments import AGAIN, Given, Settings
from harness.api.comparison_result import ComparisonResult
from harness.api.given_attention import AttentionFunction, GivenAttention
from harness.core import registry
from harness.core.plugin import AttentionPlugin
from harness.core.record import Record
from harness.core.spec import AnySpec, OperationMode, OperationSpec, QualitySpec
from harness.profiles.cases import at_timed_setting
from harness.report.questions.reference_times import REFERENCES

DRAWS = 4
"""Draws of the random numbers of an approximation, over which its error is the median."""
OWN_FRAMES = f"at {Path(given_attention.__file__).name}:"
"""How the reasons of a crash begin that name a place in the module which calls the function."""
OF_ORACLE = ("output", "grad_q", "grad_k", "grad_v")
"""How checks begin that compare with the definition, which a function that is its own definition passes by itself."""


def compare(
    attentions: Mapping[str, Given],
    *,
    like: str | AttentionFunction | AttentionPlugin | None = "softmax",
    estimates: str | None = None,
    against: str | Iterable[str] = ("sdpa",),
    lengths: int | Iterable[int] = (512, 2048),
    batch: int = 1,
    heads: int = 8,
    head_dim: int = 64,
    passes: OperationMode | Iterable[OperationMode] = "forward",
    dtype: str = "float32",
    device: str = "cpu",
    padding: float = 0.0,
    inputs: str = "normal",
    seconds: float | None = None,
) -> ComparisonResult:
    """Compare attentions by time, error and memory; each is verified against its definition before it is timed.

    ::

        import harness
        print(harness.compare({"mine": my_attention}, like="softmax", against=["sdpa", "yoso"]))

    All cases run one after the other in this process, so that a function from a notebook, a closure or a lambda can be
    measured, and under the same conditions as its rivals. Ratios are to the time of ``sdpa``, or of ``softmax`` where
    ``against`` has no ``sdpa``. That reference is timed a second time as the last of each length: no ratio is called
    clear that is nearer to 1 than that of these two times.

    A mistake of a function is a result and no exception: its status is ``incorrect`` or ``crashed``, with the reason,
    for example "it equals the definition without the padding mask". Ctrl-C ends the measurement and returns what there
    is; before the first record it raises KeyboardInterrupt.

    Args:
        attentions: what to measure, by name. A function or ``nn.Module`` is called as ``(q, k, v)`` or
            ``(q, k, v, key_padding_mask)`` with tensors ``[batch, heads, n, head_dim]`` of ``dtype`` on ``device`` and
            a bool mask ``[batch, n]``, True for a real token, or None without padding. The parameter of the mask is
            named ``key_padding_mask``, ``padding_mask`` or ``mask``. It returns a tensor like q. A module is copied,
            with its weights in ``dtype``, and every call of it is in the mode that it is given in, whatever the pass:
            a new module is in training mode, in which dropout is active, until ``.eval()`` is called. An
            ``AttentionPlugin``, as instance or class, has its own definition: ``like`` and ``estimates`` do not apply
            to it. The dictionary may be empty. No name ends in ``_again``.
        like: the definition that functions and modules must equal up to rounding: the name of a registered attention
            (``harness list``), an ``AttentionPlugin``, or a function with one of the signatures above in plain torch,
            which is also called in float64. None: each function is its own definition. Then there is no error, unless
            it ``estimates`` something, and what is verified is that its results are finite, do not depend on padded
            keys, and are the same in a second call with the same state of torch's generators.
        estimates: the registered attention that the functions approximate, relative to which their error is measured;
            only with ``like=None`` or a function.
        against: names of registered attentions to compare with.
        lengths: sequence lengths n in tokens.
        batch: sequences in a call.
        heads: heads of each sequence.
        head_dim: numbers in a head's query, key and value each.
        passes: "forward", "forward_backward", or both in a list.
        dtype: "float32", "bfloat16" or "float16"; a torch.dtype is taken, too.
        device: "cpu", "cuda" or "cuda:" and a number. Without the device the cases are unsupported.
        padding: the fraction of each sequence that is padding, from 0 to below 1. A function without a parameter for
            the mask is unsupported with padding.
        inputs: the inputs on which errors of approximations are measured: "normal" (standard normal, as in timed
            calls), "matched" (each query is similar to one key) or "clustered" (docs/errors.md).
        seconds: how long each case is sampled; None: a quarter of a second, as in the profile ``quick``. Verification
            and memory take about two seconds more at short lengths.

    Returns:
        The result. ``print`` shows its table; it has ``to_frame()``, ``report("page.html")``, ``save("run.json")``,
        ``explain()``, ``records`` and ``run``.

    Raises:
        ValueError: an argument is none of the above, such as a function with another signature, a name that is not
            registered, or a name in ``attentions`` that already is; the message names the argument.
    """
    chosen = call_arguments.settings(
        lengths=lengths, batch=batch, heads=heads, head_dim=head_dim, passes=passes, dtype=dtype, device=device,
        padding=padding, inputs=inputs, seconds=seconds,
    )  # fmt: skip
    names_of_rivals = call_arguments.rivals(against)
    given = call_arguments.attentions(attentions, like=like, estimates=estimates, settings=chosen)
    names = [*(plugin.name for plugin in given), *names_of_rivals]
    if not names:
        raise ValueError("attentions and against are both empty; name at least one attention to measure")
    effort = run_cases.default_effort()
    if chosen.seconds is not None:
        effort = replace(effort, seconds=chosen.seconds)
    call = _call(attentions, like, estimates, names_of_rivals, chosen)
    run = run_cases.header(call, [chosen.device])
    with _registered(given):
        again = _reference_again(names)
        with _registered([] if again is None else [again]):
            specs = list(_specs(names, given, again, chosen))
            measured = _with_randomness(run_cases.measured(specs, effort, in_process=True), given)
            records, is_interrupted = _measured(specs, measured)
    left_out = len(specs) - len(records) if is_interrupted else 0
    if again is not None:  # why the reference has no time is said once
        records = [record for record in records if record.spec.attention != again.name or record.status == "ok"]
    was_timed_again = again is not None and any(record.spec.attention == again.name for record in records)
    own = {plugin.name for plugin in given if isinstance(plugin, GivenAttention) and plugin.is_own_definition}
    records = [_without_own_comparison(record) if record.spec.attention in own else record for record in records]
    return ComparisonResult(
        run.model_copy(update={"records": [_without_our_frames(record) for record in records]}),
        own_definitions=frozenset(own),
        timed_again=(again.name.removesuffix(AGAIN), again.name) if again is not None and was_timed_again else None,
        refusals={plugin.name: plugin.refusals for plugin in given if isinstance(plugin, GivenAttention)},
        left_out=left_out,
    )


def _specs(
    names: Sequence[str], given: Sequence[AttentionPlugin], again: AttentionPlugin | None, chosen: Settings
) -> Iterator[OperationSpec | QualitySpec]:
    """The timed cases of each length, the reference again as the last of each pass, and then the errors there."""
    without_error = {
        plugin.name
        for plugin in given
        if isinstance(plugin, GivenAttention) and plugin.is_own_definition and plugin.estimates is None
    }
    backward: OperationMode = "forward_backward" if "forward_backward" in chosen.passes else "forward"
    for n in chosen.lengths:
        timed = {
            (name, mode): OperationSpec(
                attention=name, seq_len=n, batch=chosen.batch, heads=chosen.heads, head_dim=chosen.head_dim, mode=mode,
                dtype=chosen.dtype, device=chosen.device, padding=chosen.padding,
            )
            for mode in chosen.passes
            for name in [*names, *([] if again is None else [again.name])]
        }  # fmt: skip
        yield from timed.values()
        for name in names:
            if name not in without_error:
                error = QualitySpec(
                    attention=name, seq_len=n, batch=chosen.batch, heads=chosen.heads, head_dim=chosen.head_dim,
                    mode=backward, dtype=chosen.dtype, device=chosen.device, inputs=chosen.inputs, draws=1,
                )  # fmt: skip
                yield at_timed_setting(error, timed[name, chosen.passes[0]], DRAWS)


def _measured(specs: Sequence[AnySpec], records: Iterator[Record]) -> tuple[list[Record], bool]:
    """The records, and whether the user interrupted the measurement; a terminal shows which case runs."""
    done: list[Record] = []
    say = _progress()
    try:
        for number, spec in enumerate(specs, 1):
            what = "error" if isinstance(spec, QualitySpec) else "time"
            say(f"{number}/{len(specs)}: {what} of {spec.attention}, {spec.seq_len:,} tokens")
            done.append(next(records))
    except KeyboardInterrupt:
        if not done:
            raise
        return done, True
    finally:
        say("")
    return done, False


def _progress() -> Callable[[str], None]:
    """Shows one line on standard error if that is a terminal, in place of the line before."""
    if sys.stderr is None or not sys.stderr.isatty():
        return lambda line: None

    def say(line: str) -> None:
        print(f"\r\x1b[K{line[:79]}", end="", file=sys.stderr, flush=True)

    return say


@contextmanager
def _registered(plugins: Iterable[AttentionPlugin]) -> Iterator[None]:
    """The plugins are registered in this process until the block ends."""
    added: list[str] = []
    try:
        for plugin in plugins:
            registry.add(plugin)
            added.append(plugin.name)
        yield
    finally:
        for name in added:
            registry.remove(name)


def _reference_again(names: Sequence[str]) -> AttentionPlugin | None:
    """The attention that times are compared with, under another name; None where there is nothing to compare."""
    if len(names) < 2:
        return None
    reference = next((name for name in REFERENCES if name in names), None)
    if reference is None or reference + AGAIN in registry.names():
        return None
    again = copy.copy(registry.get(reference))
    again.name = reference + AGAIN
    return again


def _with_randomness(records: Iterable[Record], given: Iterable[AttentionPlugin]) -> Iterator[Record]:
    """The records; that of an incorrect function says where the function, and not its definition, is random."""
    functions = {plugin.name: plugin for plugin in given if isinstance(plugin, GivenAttention)}
    for record in records:
        function = functions.get(record.spec.attention)
        if record.status == "incorrect" and function is not None:
            assert isinstance(record.spec, OperationSpec | QualitySpec)
            found = None
            with suppress(Exception):  # the result is there already, so a call that fails now takes nothing from it
                found = function.randomness(record.spec)
            if found is not None:  # after the cause that was found, before what else is wrong
                reasons = [*record.reasons[:1], found, *record.reasons[1:]]
                record = record.model_copy(update={"reasons": reasons})
        yield record


def _without_own_comparison(record: Record) -> Record:
    """The record of a function that is its own definition, without the checks that compared it with itself."""
    checks = [check for check in record.checks if not (check.passed and _is_of_oracle(check.what))]
    unverified = "the results: the function is its own definition (like=None), so nothing else says what is right"
    return record.model_copy(update={"checks": checks, "unverified": [*record.unverified, unverified]})


def _without_our_frames(record: Record) -> Record:
    """The record of a crash without the places in the harness through which the function was called."""
    kept = [reason for reason in record.reasons if not reason.startswith(OWN_FRAMES)]
    return record.model_copy(update={"reasons": kept})


def _is_of_oracle(what: str) -> bool:
    name = what.rpartition(": ")[2].split(",")[0]
    return name.removesuffix(" of a second call").removesuffix(" of a measured draw") in OF_ORACLE


def _call(
    attentions: Mapping[str, object], like: object, estimates: str | None, against: Sequence[str], chosen: Settings
) -> str:
    """The call as text, with the functions by their names, for the header of the run."""
    given = ", ".join(f"{name!r}: {_name_of(value)}" for name, value in attentions.items())
    of_like = like if like is None or isinstance(like, str) else None
    like_text = repr(of_like) if of_like == like else _name_of(like)
    settings = {name: getattr(chosen, name) for name in chosen.__dataclass_fields__}
    shown = [f"{name}={value!r}" for name, value in settings.items() if value is not None]
    shown = [*([f"estimates={estimates!r}"] if estimates else []), f"against={list(against)!r}", *shown]
    return f"harness.compare({{{given}}}, like={like_text}, {', '.join(shown)})"


def _name_of(value: object) -> str:
    name = getattr(value, "__name__", type(value).__name__)
    return name if name.isidentifier() else f"a {name.strip('<>')}"
