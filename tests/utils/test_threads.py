"""How many threads compute: what a fit leaves behind in the process, and what runs side by side."""

import multiprocessing
import os
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from threadpoolctl import ThreadpoolController

from skl2rclip import L2RCLIPClassifier
from skl2rclip._utils import threads
from skl2rclip._utils.threads import n_side_by_side, one_thread, side_by_side, thread_count, threads_for
from tests.support.helpers import in_threads

N = 3  # of torch's threads, a number that nothing else sets


@pytest.fixture(autouse=True)
def _several_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(N)
    set_blas(2)
    yield
    set_blas(1)
    torch.set_num_threads(before)


def set_blas(n):
    """In a thread that ends: while it lives, threadpoolctl lets no other set the number."""
    in_new_thread(lambda: ThreadpoolController().select(user_api="blas").limit(limits=n))


def blas():
    return {pool["num_threads"] for pool in ThreadpoolController().info() if pool["user_api"] == "blas"}


def in_new_thread(function):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


def assert_as_before():
    assert torch.get_num_threads() == N
    assert in_new_thread(torch.get_num_threads) == N
    assert blas() == {2}


def test_one_thread_holds_for_this_thread_and_is_put_back():
    with one_thread():
        assert torch.get_num_threads() == 1
        assert blas() == {1}
        assert thread_count() == N
        assert in_new_thread(torch.get_num_threads) == N
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 1
    assert_as_before()


def mkl_threads() -> int | None:
    """How many threads torch's MKL would take in the present thread."""
    found = re.search(r"mkl_get_max_threads\(\) : (\d+)", torch.__config__.parallel_info())
    return int(found.group(1)) if found else None


@pytest.mark.skipif(mkl_threads() is None, reason="torch has no MKL here")
def test_one_thread_holds_for_mkl_too_once_somebody_has_set_torchs_number():
    assert mkl_threads() == N  # since the fixture has set it, MKL no longer goes by OpenMP's number
    with one_thread():
        assert mkl_threads() == 1
        assert in_new_thread(mkl_threads) == N
    assert mkl_threads() == N
    assert side_by_side(lambda part: mkl_threads(), [0, 1]) == [1, 1]
    torch.set_num_threads(N + 1)
    assert mkl_threads() == N + 1


def test_an_error_inside_puts_the_numbers_back():
    with pytest.raises(KeyboardInterrupt), one_thread():
        raise KeyboardInterrupt
    assert_as_before()


def test_threads_that_overlap_put_back_what_each_had():
    """The second begins while the first is inside, and ends after it."""
    first_is_in, second_is_in, first_is_out = (threading.Event() for _ in range(3))

    def first():
        before = torch.get_num_threads()
        with one_thread():
            first_is_in.set()
            assert second_is_in.wait(20)
        assert blas() == {1}  # the second is still inside
        first_is_out.set()
        return before, torch.get_num_threads()

    def second():
        assert first_is_in.wait(20)
        before = torch.get_num_threads()
        with one_thread():
            second_is_in.set()
            assert first_is_out.wait(20)
            assert torch.get_num_threads() == 1
        return before, torch.get_num_threads()

    assert in_threads(first, second) == [(N, N), (N, N)]
    assert_as_before()


def test_threads_that_first_compute_while_others_begin_have_all_threads():
    def enter_and_leave():
        for _ in range(20):
            with one_thread():
                pass

    def numbers_of_new_threads():
        return {in_new_thread(torch.get_num_threads) for _ in range(60)}

    *numbers, _ = in_threads(numbers_of_new_threads, numbers_of_new_threads, enter_and_leave)
    assert numbers == [{N}, {N}]
    assert_as_before()


def test_an_interrupt_while_blas_is_limited_leaves_nothing_behind(monkeypatch):
    keep, interrupts = threads._BlasLimit._keep, iter([True, False, False, False])

    def interrupted(self, function):
        keep(self, function)
        if next(interrupts):
            raise KeyboardInterrupt

    monkeypatch.setattr(threads._BlasLimit, "_keep", interrupted)
    with pytest.raises(KeyboardInterrupt), one_thread():
        raise AssertionError
    assert_as_before()
    with one_thread():
        assert blas() == {1}
    assert_as_before()


def test_a_number_that_the_user_sets_meanwhile_is_the_users():
    with one_thread():
        in_new_thread(lambda: torch.set_num_threads(2))
    assert torch.get_num_threads() == N
    assert in_new_thread(torch.get_num_threads) == 2


def test_results_come_in_order_and_the_cores_are_shared():
    assert n_side_by_side() == N
    with one_thread():
        parts = side_by_side(lambda i: (i, torch.get_num_threads(), threading.get_ident(), n_side_by_side()), range(9))
    assert [part[0] for part in parts] == list(range(9))
    assert {part[1] for part in parts} == {1}
    assert threading.get_ident() not in {part[2] for part in parts}
    assert {part[3] for part in parts} == {1}  # what runs side by side does not divide itself again
    assert_as_before()


def test_many_cores_are_shared_by_few_threads():
    torch.set_num_threads(16)
    assert side_by_side(lambda _: torch.get_num_threads(), range(8)) == [2] * 8


def test_what_torch_has_set_holds_side_by_side():
    def present(_):
        casts = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu")
        return torch.is_grad_enabled(), torch.is_inference_mode_enabled(), casts

    assert side_by_side(present, range(2)) == [(True, False, False)] * 2
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert side_by_side(present, range(2)) == [(False, False, torch.bfloat16)] * 2
    with torch.inference_mode():
        assert side_by_side(present, range(2)) == [(False, True, False)] * 2


def test_an_error_side_by_side_is_raised_here():
    def fail(i):
        raise ValueError(f"part {i}")

    with pytest.raises(ValueError, match="part 0"):
        side_by_side(fail, range(3))
    assert_as_before()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_process_forked_meanwhile_computes_with_one_thread():
    assert side_by_side(abs, [-1, -2]) == [1, 2]  # threads that the child does not have
    with one_thread(), multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply_async(_numbers_of_child).get(30) == (1, 1, [1, 2], 1)
    assert_as_before()


def _numbers_of_child():
    with one_thread():
        inside = torch.get_num_threads()
    return inside, thread_count(), side_by_side(abs, [-1, -2]), torch.get_num_threads()


def waiting_threads():
    return [thread for thread in threading.enumerate() if thread.name == "skl2rclip-waits"]


def test_threads_sleep_where_other_work_takes_the_processor_and_results_stay(monkeypatch):
    preempted = iter([0, 1, 1000, 2000])
    monkeypatch.setattr(threads, "_n_preempted", lambda: next(preempted))
    monkeypatch.setattr(threads, "_LOOK_SECONDS", 0.05)
    monkeypatch.setattr(threads.os, "cpu_count", lambda: 2 * N)
    x = torch.randn(300, 300, generator=torch.Generator().manual_seed(0))
    product = x @ x
    with threads_for(None) as watch:
        for n_waiting in (0, 2, 2):  # one switch in a while is none of other work's
            time.sleep(0.1)
            watch.step()
            assert len(waiting_threads()) == n_waiting
        assert torch.get_num_threads() == N
        assert torch.equal(x @ x, product)
        waiting = waiting_threads()
    for thread in waiting:
        thread.join(20)
    assert not waiting_threads()
    assert_as_before()


def test_small_steps_have_one_thread_and_large_ones_all():
    with threads_for(10**6) as watch:
        assert torch.get_num_threads() == 1
        watch.step()
    with threads_for(10**10) as watch:
        assert torch.get_num_threads() == N
        watch.step()
    assert_as_before()


@pytest.fixture
def embeddings():
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(3), 8)
    Z = rng.normal(size=(24, 128)) + y[:, None]
    return (Z / np.linalg.norm(Z, axis=1, keepdims=True)).astype(np.float32), y


def precomputed():
    return L2RCLIPClassifier("skl2rclip-tiny", image_tower="precomputed", prompt_epochs=3, random_state=0)


def test_a_fit_leaves_the_numbers_of_threads_as_they_were(embeddings):
    precomputed().fit(*embeddings)
    assert_as_before()


def test_a_fit_that_dies_leaves_the_numbers_of_threads_as_they_were(embeddings, monkeypatch):
    def die(*_):
        assert torch.get_num_threads() == 1
        raise KeyboardInterrupt

    monkeypatch.setattr("skl2rclip._training.stages._check_finite", die)
    with pytest.raises(KeyboardInterrupt):
        precomputed().fit(*embeddings)
    assert_as_before()


def test_fits_at_once_leave_the_numbers_of_threads_as_they_were_and_equal_one_alone(embeddings):
    def probabilities():
        return precomputed().fit(*embeddings).predict_proba(embeddings[0])

    alone = probabilities()
    for at_once in in_threads(*[probabilities] * 3):
        np.testing.assert_array_equal(at_once, alone)
    assert_as_before()
