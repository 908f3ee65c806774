"""Random damage to the files that the harness reads: runs, logs and ``pyproject.toml``. A seed determines it."""

import copy
import json
import random

VALUES = (
    None, True, False, 0, -1, 1, 2, 0.0, -0.0, 1e-320, 1e308, -1e308, float("nan"), float("inf"), float("-inf"), 2**31,
    2**63, 2**64, 10**400, -(10**400), "", "ok", "crashed", "diverged", "\ud800", "\u2028", "\x00\x1b[31m", "a`b`\n# c",
    "=1+1", "@x", "<script>alert(1)</script>", "javascript:alert(1)", "../../evil", "中", "x" * 3000, [], {}, [[]],
    [None], [0.0], [float("nan")], [10**400], {"a": 1}, {"\ud800": 1}, "operation", "model", "quality", "task",
)  # fmt: skip
"""What takes the place of a value."""
BYTES = (b"", b"\x00", b"\xff", b"\xed\xa0\x80", b'"', b"{", b"}", b"[" * 3000, b"9" * 5000, b"1e999", b"NaN", b"\n\n")
TABLES = (
    "time = false", "time = { floor = -1 }", "time = { floor = inf }", "time = { floor = nan }", "time = 3",
    "speed = 1",
    "time = { floor = 1e308 }", "false_discovery_rate = 0", "false_discovery_rate = 0.499", "cases = 3",
    "cases = [{ pattern = '' }]", "cases = [{ pattern = '[', time = false }]", "memory = { floor = 0 }", "a" * 5000,
    "time = { floor = " + "9" * 5000 + " }", "x = " + "[" * 5000, "'\u2028' = 1", "build = [1]",
    "time = { spread = 0 }",
    "time = { floor = 1" + "0" * 400 + " }", "error = { spread_apart = 1e9 }", "operators = { floor = 1e9 }",
)  # fmt: skip
"""Lines of the table ``tool.harness.gate``."""


def damaged_tree(content: object, rng: random.Random) -> object:
    """A copy of parsed JSON with one to three values replaced, removed, repeated, renamed or exchanged."""
    changed = copy.deepcopy(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        container, key = _place(changed, rng)
        if container is None:
            return rng.choice(VALUES)
        action = rng.randrange(6)
        if action < 3:
            container[key] = rng.choice(VALUES)
        elif action == 3:
            del container[key]
        elif action == 4 and isinstance(container, list):
            container += [copy.deepcopy(container[key])] * rng.choice((1, 50))
        elif isinstance(container, dict):
            container[rng.choice(("new", "\u2028", "batch", key + "s"))] = container.pop(key)
        else:
            other, other_key = _place(changed, rng)
            container[key] = copy.deepcopy(other[other_key])
    return changed


def damaged_bytes(data: bytes, rng: random.Random) -> bytes:
    """The bytes cut off, or with some replaced by others."""
    place = rng.randrange(len(data))
    if rng.randrange(3) == 0:
        return data[:place]
    return data[:place] + rng.choice(BYTES) + data[place + rng.randrange(20) :]


def damaged_run(content: object, rng: random.Random) -> bytes:
    """The bytes of a benchmark JSON, damaged as a tree or as bytes."""
    if rng.randrange(4) == 0:
        return damaged_bytes(json.dumps(content).encode(), rng)
    return json.dumps(damaged_tree(content, rng)).encode()


def damaged_log(header: object, records: list[object], rng: random.Random) -> bytes:
    """The bytes of a log in which one line is damaged."""
    lines = [header, *records]
    number = rng.randrange(len(lines))
    lines[number] = damaged_tree(lines[number], rng)
    data = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    return damaged_bytes(data, rng) if rng.randrange(4) == 0 else data


def damaged_project(rng: random.Random) -> bytes:
    """The bytes of a ``pyproject.toml`` with one or two odd lines."""
    lines = ["[tool.harness.gate]", *rng.sample(TABLES, rng.choice((1, 2)))]
    data = "\n".join(lines).encode()
    return damaged_bytes(data, rng) if rng.randrange(3) == 0 else data


def _place(content: object, rng: random.Random) -> tuple[object, object]:
    """A random container inside the content, and one of its keys; deep places are as likely as shallow ones."""
    places: list[tuple[object, object]] = []
    pending = [content]
    while pending:
        container = pending.pop()
        keys = [*container] if isinstance(container, dict) else [*range(len(container))]
        for key in keys:
            places.append((container, key))
            if isinstance(container[key], dict | list):
                pending.append(container[key])
    return rng.choice(places) if places else (None, None)
