import numpy as np
import pytest

from agpis.errors import SettingsError
from agpis.primary import choose_primary

ALL = np.ones(4, bool)


def test_the_likeliest_above_the_threshold_is_the_primary():
    assert choose_primary(np.array([0.2, 0.9, 0.7, 0.1], np.float32), ALL, 0.5) == 1


def test_an_image_that_is_not_eligible_is_passed_over():
    assert choose_primary(np.array([0.2, 0.9, 0.7, 0.1]), np.array([True, False, True, True]), 0.5) == 2


def test_no_image_above_the_threshold_gives_none():
    assert choose_primary(np.array([0.2, 0.5, 0.3, 0.1]), ALL, 0.5) is None, "equal is not above"
    assert choose_primary(np.array([0.2, 0.9]), np.array([True, False]), 0.5) is None
    assert choose_primary(np.array([0.9, 0.9]), np.zeros(2, bool), 0.0) is None


def test_no_images_give_none():
    assert choose_primary(np.zeros(0), np.zeros(0, bool), 0.5) is None


def test_of_equals_the_first_in_the_merchants_order_wins():
    assert choose_primary(np.array([0.1, 0.8, 0.8, 0.8]), np.array([True, False, True, True]), 0.5) == 2


def test_the_threshold_zero_takes_any_positive_probability():
    assert choose_primary(np.array([0.0, 1e-6]), np.ones(2, bool), 0.0) == 1


@pytest.mark.parametrize("eligible", [np.ones(3, bool), np.ones((2, 1), bool), np.ones(2, np.int64)])
def test_shapes_that_do_not_fit_are_refused(eligible):
    with pytest.raises(SettingsError, match=r"both must be \(n,\), eligible bool") as caught:
        choose_primary(np.array([0.5, 0.6]), eligible, 0.5)
    assert caught.value.code == "primary_shapes"


@pytest.mark.parametrize("threshold", [-0.1, 1.5, float("nan")])
def test_a_threshold_outside_0_to_1_is_refused(threshold):
    with pytest.raises(SettingsError, match=r"the primary threshold is .*; allowed is 0 to 1") as caught:
        choose_primary(np.array([0.5]), np.ones(1, bool), threshold)
    assert caught.value.code == "threshold"


def test_a_probability_that_is_no_number_is_refused():
    with pytest.raises(SettingsError, match="p_primary of image 1 is not a number") as caught:
        choose_primary(np.array([0.5, np.nan]), np.ones(2, bool), 0.5)
    assert caught.value.code == "primary_nan"
