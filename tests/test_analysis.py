"""Band similarity against the reference and its controls; plots; the callback."""

import keras
import numpy as np
import pytest
from conftest import classifier, cross_entropy, pairs

from keras_fdkd import FrequencyDistiller
from keras_fdkd.analysis import (
    band_similarity,
    extract_features,
    plot_learning_curves,
    plot_modalities,
    plot_similarity,
)
from keras_fdkd.callbacks import BandSimilarity


def test_similarity_matches_the_reference(golden):
    data = golden("fdcmkd_similarity")
    features = {"teacher": data["feature_a"], "student": data["feature_v"]}
    report = band_similarity(features)
    for ours, theirs in (("low_with_dc", "low"), ("high", "high"), ("raw", "raw")):
        np.testing.assert_allclose(report.samples[ours], data[f"sim_{theirs}_f64"], atol=1e-6)
        assert report.mean[ours] == pytest.approx(float(data[f"mean_sim_{theirs}_f64"]), abs=1e-6)


def test_controls_expose_the_shared_mean():
    """Independent non-negative features: the paper's pattern, and none of it is frequency."""
    rng = np.random.default_rng(0)
    features = {side: np.abs(rng.normal(size=(200, 128))) for side in ("teacher", "student")}
    mean = band_similarity(features).mean
    assert mean["low_with_dc"] > mean["raw"] > 0.5
    assert abs(mean["high"]) < 0.05
    assert abs(mean["low"]) < 0.05
    assert mean["low_with_dc_shuffled"] == pytest.approx(mean["low_with_dc"], abs=0.02)


def test_controls_confirm_a_real_low_band():
    rng = np.random.default_rng(0)
    waves = [
        np.cos(2 * np.pi * k * np.arange(64) / 64 + phase) for k in (1, 2, 3) for phase in (0, 1)
    ]
    shared = 3 * rng.normal(size=(100, 6)) @ waves
    features = {side: shared + rng.normal(size=(100, 64)) for side in ("teacher", "student")}
    mean = band_similarity(features).mean
    assert mean["low"] > 0.8
    assert abs(mean["high"]) < 0.1
    assert mean["low_shuffled"] == pytest.approx(mean["high_shuffled"], abs=0.1)


def test_per_class():
    rng = np.random.default_rng(0)
    labels = np.arange(20) % 2
    teacher = rng.normal(size=(20, 16))
    student = np.where(labels[:, None] == 0, teacher, -teacher)
    report = band_similarity({"teacher": teacher, "student": student}, labels=labels)
    assert report.per_class[0]["raw"] == pytest.approx(1, abs=1e-5)
    assert report.per_class[1]["raw"] == pytest.approx(-1, abs=1e-5)
    assert report.mean["raw"] == pytest.approx(0, abs=1e-5)
    assert set(report.per_class[0]) == set(report.mean)


def test_from_a_distiller():
    x, y = pairs()
    distiller = FrequencyDistiller(classifier(6, features=20), classifier(4))
    features, labels = extract_features(distiller, (x, y))
    assert features["student"].shape == (24, 20)  # projected
    report = band_similarity(distiller, (x, y))
    expected = band_similarity(features, labels=labels)
    assert report.mean == pytest.approx(expected.mean)
    assert set(report.per_class) == {0, 1, 2}


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"teacher": np.ones((3, 8))}, "must be a dict"),
        ({"teacher": np.ones((3, 8)), "student": np.ones((3, 6))}, "must have the same shape"),
    ],
)
def test_wrong_features(features, message):
    with pytest.raises(ValueError, match=message):
        band_similarity(features)


def test_wrong_labels_and_shuffles():
    features = {side: np.ones((4, 8)) for side in ("teacher", "student")}
    with pytest.raises(ValueError, match="a label for each sample"):
        band_similarity(features, labels=[0, 1, 2])
    with pytest.raises(ValueError, match="`shuffles` must be a positive integer"):
        band_similarity(features, shuffles=0)


def test_one_hot_labels_and_bare_pairs():
    class Bare(keras.utils.PyDataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            return {side: value[8 * index : 8 * index + 8] for side, value in x.items()}

    x, y = pairs()
    distiller = FrequencyDistiller(classifier(6), classifier(4), cutoff=0.25)
    sparse = band_similarity(distiller, (x, y))
    one_hot = band_similarity(distiller, (x, np.eye(3)[y]))
    assert sparse.per_class == one_hot.per_class
    assert band_similarity(distiller, Bare()).mean == pytest.approx(sparse.mean, abs=1e-5)
    # The distiller's own cutoff, unless another one is asked for.
    assert band_similarity(distiller, (x, y), cutoff=0.25).mean == sparse.mean
    assert band_similarity(distiller, (x, y), cutoff=0.5).mean != sparse.mean


def test_plots(tmp_path):
    rng = np.random.default_rng(0)
    features = {side: rng.random((30, 16)) for side in ("teacher", "student")}
    report = band_similarity(features)
    runs = {"alone": [{"val_accuracy": [0.1, 0.5]}], "distilled": [{"val_accuracy": [0.2, 0.7]}]}
    figures = [
        plot_similarity({"before": report, "after": report}),
        plot_learning_curves(runs, "val_accuracy"),
        plot_modalities({"before": features, "after": features}, rng.integers(3, size=30)),
    ]
    bars = [patch.get_height() for patch in figures[0].axes[0].patches]
    assert report.mean["low_with_dc"] in bars
    assert report.mean["low_with_dc_shuffled"] in bars
    assert figures[1].axes[0].lines[1].get_ydata().tolist() == [0.2, 0.7]
    assert [axis.get_title() for axis in figures[2].axes] == ["before", "after"]
    for index, figure in enumerate(figures):
        figure.savefig(tmp_path / f"{index}.png")
        assert (tmp_path / f"{index}.png").stat().st_size > 5000


def test_callback():
    x, y = pairs()
    distiller = FrequencyDistiller(classifier(6), classifier(4))
    distiller.compile("adam", loss=cross_entropy())
    callback = BandSimilarity(x, every=2, shuffles=2)
    history = distiller.fit(x, y, epochs=3, verbose=0, callbacks=[callback]).history
    low = history["similarity_low"]
    assert low[0] == low[1] != low[2]
    final = band_similarity(distiller, x, shuffles=2).mean
    for kind, value in final.items():
        assert history[f"similarity_{kind}"][-1] == pytest.approx(value, abs=1e-5)
    with pytest.raises(ValueError, match="`every` must be a positive integer"):
        BandSimilarity(x, every=0)


def test_low_similarity_log_is_that_of_the_analysis():
    x, y = pairs()
    distiller = FrequencyDistiller(classifier(6), classifier(4))
    distiller.compile(keras.optimizers.SGD(0.0), loss=cross_entropy())
    logs = distiller.fit(x, y, verbose=0, batch_size=24).history
    mean = band_similarity(distiller, x).mean
    for band in ("low", "high"):
        assert logs[f"{band}_similarity"][0] == pytest.approx(mean[band], abs=1e-5)
