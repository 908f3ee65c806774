"""What the harness adds to a call of about a millisecond, against a loop written by hand in the same process.

It is no part of the profiles and no pytest suite. Run it by its name::

    python suites/studies/harness_overhead.py --out overhead.json

The call is torch's ``scaled_dot_product_attention`` at the first length whose call takes a millisecond here. Each round
has one case of the harness, from its spec to its record as ``harness run`` takes it, and one loop of ``perf_counter``
around the bare function; every other round takes them in the other order. A round's ratio is the harness's median
sample over the loop's. The same loop against itself is the noise of that comparison.

The loop calls the function on the same tensors, which then stay in the caches. The harness's inputs are new in every
call. A loop that also writes new inputs before each call shows how much of the ratio that explains.
"""

import json
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch.nn.functional import scaled_dot_product_attention

from harness.cases import runner
from harness.core.spec import OperationSpec
from harness.measure import inputs, machine
from harness.profiles import profile
from harness.statistics import intervals

TARGET_SECONDS = 1e-3
LENGTHS = range(64, 2049, 32)
EFFORT = profile.get("quick").effort
BAR = 1.02


def by_hand(spec: OperationSpec, new_inputs: bool) -> float:
    """Median seconds of a call in a plain loop that lasts as long, and takes as many samples, as the harness's.

    Args:
        spec: the call.
        new_inputs: write other numbers before each call; else all calls have the same.
    """
    fresh = inputs.FreshInputs(spec, seed=0, sets=2)
    given = fresh.of_call(0)
    samples: list[float] = []
    warm_until = perf_counter() + EFFORT.warmup_seconds
    end = warm_until + EFFORT.seconds
    number = 0
    with torch.no_grad():
        while (now := perf_counter()) < end and len(samples) < EFFORT.max_samples:
            number += 1
            if new_inputs:
                given = fresh.of_call(number)
            q, k, v = given.q, given.k, given.v
            start = perf_counter()
            scaled_dot_product_attention(q, k, v)
            seconds = perf_counter() - start
            if now >= warm_until:
                samples.append(seconds)
    return median(samples)


def by_harness(spec: OperationSpec) -> float:
    """Median seconds of a call in the record of the case.

    Raises:
        RuntimeError: the case has no timing; the message has its reasons.
    """
    record = runner.run(spec, EFFORT)
    if record.timing is None:
        raise RuntimeError(f"{spec.case_id} is {record.status}: {'; '.join(record.reasons)}")
    return median(record.timing.wall_seconds)


def rounds(of: int, ours: Callable[[], float], theirs: Callable[[], float]) -> list[tuple[float, float]]:
    """Seconds of both, a pair a round, the order turned every other round."""
    found = []
    for turn in range(of):
        if turn % 2:
            second, first = theirs(), ours()
        else:
            first, second = ours(), theirs()
        found.append((first, second))
    return found


def summary(pairs: list[tuple[float, float]]) -> dict[str, Any]:
    """The median ratio with its bootstrap interval, the spread of the rounds, and every round's seconds."""
    ratios = [ours / theirs for ours, theirs in pairs]
    found = intervals.bootstrap_median(ratios, np.random.default_rng(0))
    return {
        "ratio_median": found.value,
        "ratio_low": found.low,
        "ratio_high": found.high,
        "ratio_smallest": min(ratios),
        "ratio_largest": max(ratios),
        "seconds": [list(pair) for pair in pairs],
    }


def main(
    out: Annotated[Path, typer.Option("--out", "-o", help="JSON to write")] = Path("overhead.json"),
    repeats: Annotated[int, typer.Option(help="rounds", min=4)] = 40,
) -> None:
    """Measure, write the JSON and print the ratio."""

    def spec(length: int) -> OperationSpec:
        return OperationSpec(attention="sdpa", seq_len=length)

    length = next((n for n in LENGTHS if by_hand(spec(n), new_inputs=False) >= TARGET_SECONDS), LENGTHS[-1])
    case = spec(length)

    def ratio(ours: Callable[[], float], new_inputs: bool) -> dict[str, Any]:
        return summary(rounds(repeats, ours, lambda: by_hand(case, new_inputs)))

    harness = ratio(lambda: by_harness(case), new_inputs=False)
    on_new_inputs = ratio(lambda: by_harness(case), new_inputs=True)
    noise = ratio(lambda: by_hand(case, new_inputs=False), new_inputs=False)
    found = {
        "what": "seconds of a call by the harness over those in a loop by hand; medians of a round's samples",
        "case": case.case_id,
        "call_seconds": median(hand for _, hand in harness["seconds"]),
        "threads": torch.get_num_threads(),
        "rounds": repeats,
        "interval_level": intervals.LEVEL,
        "bar": BAR,
        "harness_over_hand": harness,
        "harness_over_hand_on_new_inputs": on_new_inputs,
        "hand_over_hand": noise,
        "commit": machine.commit(),
        "machine": machine.fingerprint(),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(found, indent=1) + "\n")
    typer.echo(f"{case.case_id}: {found['call_seconds'] * 1e3:.3f} ms by hand")
    for name, ratios in (
        ("harness / by hand", harness),
        ("harness / by hand on new inputs", on_new_inputs),
        ("by hand / by hand", noise),
    ):
        typer.echo(f"{name} {ratios['ratio_median']:.4f} [{ratios['ratio_low']:.4f}, {ratios['ratio_high']:.4f}]")
    typer.echo(out)


if __name__ == "__main__":
    typer.run(main)
