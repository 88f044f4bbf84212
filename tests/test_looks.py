"""O'Brien-Fleming limits against published tables and a simulation."""

from __future__ import annotations

import numpy as np
import pytest

from agpis.errors import SettingsError
from agpis.looks import MOST, constant, crossing, inflation, limit_at, peeking

# Jennison and Turnbull, Group Sequential Methods (2000), Table 2.3, alpha = 0.05, by number of looks.
CONSTANTS = {1: 1.960, 2: 1.977, 3: 2.004, 4: 2.024, 5: 2.040, 6: 2.053, 7: 2.063, 8: 2.072, 9: 2.080, 10: 2.087}
# Ibid., Table 2.4: R_B for power 0.8 and 0.9.
INFLATIONS = {(2, 0.8): 1.008, (3, 0.8): 1.017, (5, 0.8): 1.028, (10, 0.8): 1.040, (2, 0.9): 1.007, (5, 0.9): 1.026}
# Armitage, McPherson, Rowe, JRSS A 132 (1969), Table 2: repeated tests at 5 %.
PEEKING = {1: 0.05, 2: 0.083, 3: 0.107, 4: 0.126, 5: 0.142, 10: 0.193, 20: 0.248, 50: 0.320}


def test_constants_are_the_published_ones() -> None:
    for looks, wanted in CONSTANTS.items():
        assert constant(looks) == pytest.approx(wanted, abs=6e-4)


def test_limits_are_those_of_sas() -> None:
    """SAS/STAT User's Guide, PROC SEQDESIGN, "Creating Two-Sided Pocock and O'Brien-Fleming Designs": 4 looks."""
    found = [limit_at(look, 4) for look in range(1, 5)]
    assert found == pytest.approx([4.04859, 2.86278, 2.33745, 2.02429], abs=2e-5)
    assert inflation(4, power=0.9) == pytest.approx(1.022163, abs=2e-6)


def test_inflation_is_the_published_one() -> None:
    for (looks, power), wanted in INFLATIONS.items():
        assert inflation(looks, power=power) == pytest.approx(wanted, abs=6e-4)
    assert inflation(1) == 1


def test_peeking_inflates_as_published() -> None:
    for looks, wanted in PEEKING.items():
        assert peeking(looks) == pytest.approx(wanted, abs=6e-4)


def test_power_agrees_with_a_simulation() -> None:
    limits = [limit_at(look, 3) for look in (1, 2, 3)]
    sums = np.random.default_rng(5).normal(2.5 / np.sqrt(3), 1, (200_000, 3)).cumsum(axis=1)
    crossed = (np.abs(sums / np.sqrt([1, 2, 3])) >= limits).any(axis=1)
    assert crossing(limits, 2.5) == pytest.approx(crossed.mean(), abs=0.004)


def test_daily_looks_of_a_quarter() -> None:
    assert crossing([limit_at(look, 90) for look in range(1, 91)]) == pytest.approx(0.05, abs=1e-8)
    assert 2.1 < constant(90) < 2.24  # the limit for ever more looks is 2.2414, P(max |W| over [0, 1] >= c) = 0.05


def test_looks_that_cannot_be_meant() -> None:
    with pytest.raises(SettingsError, match=f"found 0 looks, allowed are 1 to {MOST}"):
        constant(0)
    with pytest.raises(SettingsError, match="found look 6 of 5 planned, allowed is 1 to 5"):
        limit_at(6, 5)
