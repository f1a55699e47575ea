"""The statistics of a study, against published examples, and how often its advice is wrong."""

import numpy as np
import pytest
from scipy import stats
from sklearn.datasets import make_moons
from sklearn.model_selection import RepeatedStratifiedKFold, cross_val_score
from sklearn.svm import SVC

from keras_fdkd.study import Gain
from keras_fdkd.study.advice import decide
from keras_fdkd.study.statistics import holm
from recipes.benchmark.advice_rates import OVERLAP, simulated


def test_the_published_example_of_scikit_learn():
    """ "Statistical comparison of models using grid search": radial against linear kernel."""
    x, y = make_moons(noise=0.352, random_state=1, n_samples=100)
    folds = RepeatedStratifiedKFold(n_splits=10, n_repeats=10, random_state=0)
    radial, linear = (
        cross_val_score(SVC(kernel=kernel, random_state=0), x, y, scoring="roc_auc", cv=folds)
        for kernel in ("rbf", "linear")
    )
    gain = Gain.of(radial - linear, overlap=10 / 90)
    assert gain.mean / gain.error == pytest.approx(0.750, abs=5e-4)
    assert 1 - gain.probability() == pytest.approx(0.227, abs=5e-4)
    assert gain.probability() == pytest.approx(0.773, abs=5e-4)
    # Their interval in which the difference is practically 0, of one point.
    inside = gain.probability(-0.01) - gain.probability(0.01)
    assert inside == pytest.approx(0.432, abs=5e-4)


def test_a_gain_by_hand():
    gain = Gain.of([1.0, 2.0, 3.0], overlap=0.5)
    error = np.sqrt((1 / 3 + 0.5) * 1.0)  # The variance is 1.
    assert gain.error == pytest.approx(error)
    assert gain.interval() == pytest.approx((2 - 4.30265 * error, 2 + 4.30265 * error), abs=1e-4)
    assert gain.p_value() == pytest.approx(2 * stats.t.sf(2 / error, 2))
    # Without overlap it is the ordinary test.
    plain = Gain.of([1.0, 2.0, 3.0], overlap=0.0)
    assert plain.p_value() == pytest.approx(stats.ttest_1samp([1.0, 2.0, 3.0], 0).pvalue)


@pytest.mark.parametrize("values", [(), (0.1,), (0.1, 0.1, 0.1), (0.0, 0.0)])
def test_what_has_no_spread_is_not_known(values):
    gain = Gain.of(values, OVERLAP)
    assert np.isnan([gain.error, gain.probability(), gain.p_value(), *gain.interval()]).all()
    if values:
        assert decide({"kd": gain}, 0.0) == ("undecided", "kd")


def test_holm_by_hand():
    """The example of Wikipedia's article on the method: H1, H3 are rejected at 5 %."""
    adjusted = holm({"h1": 0.01, "h2": 0.04, "h3": 0.03, "h4": 0.005, "unknown": float("nan")})
    expected = {"h1": 0.03, "h2": 0.06, "h3": 0.06, "h4": 0.02}
    assert {name: adjusted[name] for name in expected} == pytest.approx(expected)
    assert np.isnan(adjusted["unknown"])


def studies(gains, noise=0.02):
    return simulated(gains, splits=5, noise=noise, count=1500)


@pytest.mark.parametrize(
    ("gains", "margin"),
    [
        ([0.0], 0.0),
        ([0.0] * 4, 0.0),
        ([0.01] * 4, 0.01),
        ([0.01, 0.0, -0.02, -0.05], 0.01),
        ([0.0] * 10, 0.0),
    ],
)
def test_advice_to_use_a_method_without_gain_is_rare(gains, margin):
    """At most 5 % of studies, however many methods are compared; 2 points are for chance."""
    wrong = [decide(table, margin)[0] == "use" for table in studies(gains)]
    assert np.mean(wrong) < 0.07


@pytest.mark.parametrize("gains", [[0.03], [0.03, 0.0, 0.0], [0.011] * 4])
def test_advice_against_a_method_that_gains_is_rare(gains):
    wrong = [decide(table, 0.01)[0] == "without" for table in studies(gains)]
    assert np.mean(wrong) < 0.07


def test_a_method_that_helps_is_found():
    kinds = [decide(table, 0.0) for table in studies([0.03, 0.0, 0.0], noise=0.01)]
    assert np.mean([kind == ("use", "method 0") for kind in kinds]) > 0.8
    kinds = [decide(table, 0.03)[0] for table in studies([0.0, 0.0], noise=0.01)]
    assert np.mean([kind == "without" for kind in kinds]) > 0.8
