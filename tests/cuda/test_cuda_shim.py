"""The shim itself: right kernels give CUDA's values in any order of threads, wrong ones are found."""

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
        # A thread that ends with an error does not free what its stack holds.
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


def test_a_missing_barrier_shows_between_orders(selftest):
    results = {tuple(numbers(selftest("no_barrier", order))) for order in ORDERS}
    assert len(results) > 1


def test_a_lost_update_of_two_warps_shows_where_they_take_turns(selftest):
    """In the other orders each runs up to the barrier."""
    results = [numbers(selftest("lost_update", order))[0] for order in (0, 1, 2, 3, 5)]
    assert results[0] == results[1] == results[2] > results[3] == results[4]


@pytest.mark.parametrize("order", ORDERS)
def test_a_copy_that_nobody_waited_for_may_not_have_arrived(selftest, order):
    found = numbers(selftest("reads_copies", order))
    assert found[:64] == [14] * 64
    if order % 2 == 0:
        assert found[64:] == [14] * 64
    else:
        assert 14 not in found[64:]


def test_a_read_of_unwritten_shared_memory_shows(selftest):
    found = numbers(selftest("reads_what_nobody_wrote"))
    if selftest.sanitized:  # there the static part keeps what was in it
        assert found[::2] == [-1] * 64
    else:
        assert found == [-1] * 128


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("leaves_before_the_barrier", ["thread (7, 0, 0) has ended", "waits for the block at kernels.cu:"]),
        ("two_barriers", ["threads do not meet", "thread (32, 0, 0) waits for the block at kernels.cu:"]),
        ("a_lane_is_missing", ["thread (31, 0, 0) has ended", "waits for its warp at kernels.cu:"]),
        ("half_a_warp", ["a collective of less than the whole warp"]),
    ],
)
@pytest.mark.parametrize("order", ORDERS)
def test_threads_that_do_not_meet_are_an_error_that_names_both(selftest, case, words, order):
    code, text = selftest(case, order)
    assert code == 3
    assert "cuda_shim: block (" in text
    if order == 0:
        assert all(word in text for word in words), text


@pytest.mark.parametrize("case", ["beyond_dynamic_shared", "beyond_static_shared", "misaligned"])
def test_the_sanitizers_see_what_a_kernel_does(selftest, case):
    if not selftest.sanitized:
        pytest.skip("the sanitized build's")
    code, text = selftest(case)
    assert code not in (0, 3)
    assert "kernels.cu" in text
    assert "AddressSanitizer: heap-buffer-overflow" in text or "runtime error" in text


def test_cudas_limits_are_kept(selftest):
    assert numbers(selftest("limits")) == [9, 9, 9, 9, 9, 9, 0]


def test_conversions_equal_torchs(selftest):
    columns = torch.tensor(numbers(selftest("conversions"))).reshape(-1, 5).T
    patterns = torch.arange(1 << 16).to(torch.uint16)
    value = columns[2].to(torch.uint32).view(torch.float32)
    for dtype, widened, narrowed in ((torch.float16, 0, 3), (torch.bfloat16, 1, 4)):
        truth, found = patterns.view(dtype).float(), columns[widened].to(torch.uint32).view(torch.float32)
        assert torch.equal(found.isnan(), truth.isnan())
        assert torch.equal(found.nan_to_num(), truth.nan_to_num())
        truth, found = value.to(dtype), columns[narrowed].to(torch.uint16).view(dtype)
        assert torch.equal(found.isnan(), truth.isnan())
        assert torch.equal(found.float().nan_to_num(), truth.float().nan_to_num())
