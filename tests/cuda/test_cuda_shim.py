"""The shim itself: correct kernels give CUDA's values in any order of threads, and faults of kernels are detected."""

import subprocess

import pytest
import torch
from cuda_shim.shim import program

ORDERS = [0, 1, 2, 3]


@pytest.fixture(scope="session", params=[False, True], ids=["plain", "sanitized"])
def selftest(request):
    built = program("selftest/kernels.cu", sanitized=request.param)

    def run(case, order=0):
        command = [str(built), case, str(order)]
        # A thread that ends with an error does not free the memory that its stack owns.
        environment = {"ASAN_OPTIONS": "detect_leaks=0"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout + done.stderr

    run.sanitized = request.param
    return run


def numbers(result):
    code, text = result
    assert code == 0, text
    return [int(word) for word in text.split()]


@pytest.mark.parametrize("order", ORDERS)
def test_collectives_give_cudas_values(selftest, order):
    expected = []
    for rank in range(128):
        lane, warp = rank % 32, rank // 32 * 32
        above = rank - 3 if lane % 8 >= 3 else rank
        below = rank + 3 if lane % 8 < 5 else rank
        first = warp + lane // 16 * 16
        equal = 0xF << lane // 4 * 4
        values = sum(range(warp, warp + 32)) + 3 * above + 5 * below + 7 * first
        expected.append(values + 0xAAAAAAAA % 1000 + equal % 1000 + 5 * 11 + 13 + 17)
    assert numbers(selftest("collectives", order)) == expected


@pytest.mark.parametrize("order", ORDERS)
def test_shared_memory_and_atomics(selftest, order):
    assert numbers(selftest("reverse_in_shared", order)) == [100 + 63 - i for i in range(64)] * 2
    assert numbers(selftest("count_with_atomics", order))[0] == 64


def test_a_missing_barrier_changes_results_between_orders(selftest):
    results = {tuple(numbers(selftest("no_barrier", order))) for order in ORDERS}
    assert len(results) > 1


def test_a_race_between_warps_shows_if_they_take_turns(selftest):
    """In the other orders, each warp runs to the barrier before the next one starts."""
    results = [numbers(selftest("lost_update", order))[0] for order in (0, 1, 2, 3, 5)]
    assert results[0] == results[1] == results[2] > results[3] == results[4]


@pytest.mark.parametrize("order", ORDERS)
def test_a_copy_without_a_wait_does_not_arrive_in_odd_orders(selftest, order):
    values = numbers(selftest("reads_copies", order))
    assert values[:64] == [14] * 64
    if order % 2 == 0:
        assert values[64:] == [14] * 64
    else:
        assert 14 not in values[64:]


def test_unwritten_shared_memory_reads_as_minus_one(selftest):
    values = numbers(selftest("reads_unwritten_memory"))
    if selftest.sanitized:  # the sanitized build does not poison static shared memory
        assert values[::2] == [-1] * 64
    else:
        assert values == [-1] * 128


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("leaves_before_the_barrier", ["thread (7, 0, 0) has ended", "waits for the block at kernels.cu:"]),
        (
            "two_barriers",
            ["the same barrier", "thread (32, 0, 0) waits for the block at kernels.cu:"],
        ),
        ("misses_a_lane", ["thread (31, 0, 0) has ended", "waits for its warp at kernels.cu:"]),
        ("half_a_warp", ["a warp-wide operation must have the mask of the whole warp"]),
    ],
)
@pytest.mark.parametrize("order", ORDERS)
def test_threads_at_different_barriers_are_an_error_that_names_both(selftest, case, words, order):
    code, text = selftest(case, order)
    assert code == 3
    assert "cuda_shim: block (" in text
    if order == 0:
        assert all(word in text for word in words), text


@pytest.mark.parametrize("case", ["beyond_dynamic_shared", "beyond_static_shared", "misaligned"])
def test_the_sanitizers_detect_invalid_accesses_of_kernels(selftest, case):
    if not selftest.sanitized:
        pytest.skip("only the sanitized build detects this")
    code, text = selftest(case)
    assert code not in (0, 3)
    assert "kernels.cu" in text
    assert "AddressSanitizer: heap-buffer-overflow" in text or "runtime error" in text


def test_launches_beyond_cudas_limits_are_refused(selftest):
    assert numbers(selftest("limits")) == [9, 9, 9, 9, 9, 9, 0]


def test_conversions_equal_those_of_torch(selftest):
    columns = torch.tensor(numbers(selftest("conversions"))).reshape(-1, 5).T
    patterns = torch.arange(1 << 16).to(torch.uint16)
    value = columns[2].to(torch.uint32).view(torch.float32)
    for dtype, widened, narrowed in ((torch.float16, 0, 3), (torch.bfloat16, 1, 4)):
        expected, actual = patterns.view(dtype).float(), columns[widened].to(torch.uint32).view(torch.float32)
        assert torch.equal(actual.isnan(), expected.isnan())
        assert torch.equal(actual.nan_to_num(), expected.nan_to_num())
        expected, actual = value.to(dtype), columns[narrowed].to(torch.uint16).view(dtype)
        assert torch.equal(actual.isnan(), expected.isnan())
        assert torch.equal(actual.float().nan_to_num(), expected.float().nan_to_num())
