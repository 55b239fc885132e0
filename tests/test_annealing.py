"""What a schedule does to a loss: against sums written out term by term."""

from __future__ import annotations

import numpy as np
import pytest

from foretrain.runs.annealing import GAIN_POWER, MEMORIES, RATE_POWER, RatePath


def cosine(steps: int, warmup: int = 0, end: float = 0.1) -> np.ndarray:
    ramp = np.arange(1, warmup + 1) / max(warmup, 1)
    along = np.arange(steps - warmup) / max(steps - warmup - 1, 1)
    return 3e-4 * np.concatenate([ramp, end + (1 - end) * 0.5 * (1 + np.cos(np.pi * along))])


def summed(lr: np.ndarray, step: int, memory: float) -> float:
    """The loss reduction of Luo et al. 2025, equation 4, term by term, over B and the largest rate."""
    u = [rate / max(lr) for rate in lr]
    peak = next(i for i, rate in enumerate(u) if rate >= 0.999)
    done = np.cumsum(u)
    total = 0.0
    for k in range(peak + 1, step):
        since = done[step - 1] - done[k - 1]
        x = memory * since * max(u[k], 1e-6) ** -RATE_POWER
        total += (u[k - 1] - u[k]) * (1 - (1 + x) ** -GAIN_POWER)
    return total


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("warmup", [0, 40])
def test_annealing_is_the_sum_of_the_multi_power_law(memory, warmup):
    lr = cosine(300, warmup)
    path = RatePath.of(lr)
    steps = np.array([1, warmup + 1, 120, 250, 300])
    expected = [summed(lr, int(step), memory) for step in steps]
    assert path.annealed(steps, memory) == pytest.approx(expected, abs=1e-12)


def test_drops_taken_together_change_the_sum_by_less_than_a_thousandth():
    lr = cosine(1200, 100)
    path = RatePath.of(lr)
    for memory in MEMORIES:
        assert path.annealed(np.array([600, 1200]), memory) == pytest.approx(
            [summed(lr, 600, memory), summed(lr, 1200, memory)], abs=1e-3
        )


def test_training_done_is_the_sum_of_the_rates_in_steps_at_the_largest():
    lr = np.array([1e-4, 2e-4, 2e-4, 1e-4, 0.0])
    path = RatePath.of(lr)
    assert path.done(np.array([1, 3, 5])) == pytest.approx([0.5, 2.5, 3.0])
    assert path.warmup_end == 2


def test_a_jump_shows_at_once_in_part_and_wholly_in_the_end():
    path = RatePath.of(np.concatenate([np.ones(100), np.full(10**6, 0.1)]))
    shown = path.annealed(np.array([100, 101, 10**6 + 100]), 0.1)
    assert shown[0] == 0.0 and 0 < shown[1] < 0.5
    assert shown[2] == pytest.approx(0.9, abs=0.01)


def test_a_constant_rate_and_a_warm_up_anneal_nothing():
    path = RatePath.of(np.concatenate([np.arange(1, 51) / 50, np.ones(50)]))
    assert not path.annealed(np.array([10, 50, 100]), 0.03).any()


def test_a_rate_that_rises_again_gives_its_gain_back():
    path = RatePath.of(np.concatenate([np.ones(50), np.full(50, 0.2), np.ones(100_000)]))
    low, high = path.annealed(np.array([100, 100_100]), 0.1)
    assert low > 0.3 and abs(high) < 0.01
