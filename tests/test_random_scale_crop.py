"""Pictures of two modalities and the labels of their pixels are scaled, cut and mirrored alike."""

import numpy as np
import pytest

from recipes.published.random_scale_crop import RandomScaleCrop


class Fixed:
    """A generator of chosen numbers: the scale, whether mirrored, and the place of the cut."""

    def __init__(self, scale, mirrored=False, share=0.0):
        self.scale, self.numbers = scale, iter([0.0 if mirrored else 0.9, share, share])

    def uniform(self, low, high, size):
        return np.full(size, self.scale)

    def random(self, size):
        return np.full(size, next(self.numbers))


@pytest.fixture
def scenes():
    """Each pixel says where it is: rows in colour 0, columns in colour 1 and in the labels."""
    rows, columns = np.mgrid[:6, :8]
    picture = np.stack([rows, columns, rows], axis=-1)[np.newaxis].repeat(2, axis=0)
    sides = {"rgb": picture.astype("uint8"), "depth": picture[..., 1:2].astype("float16")}
    return sides, columns[np.newaxis].repeat(2, axis=0).astype("int8")


def test_scale_1_changes_nothing(scenes):
    sides, labels = scenes
    made, classes = RandomScaleCrop()(sides, labels, Fixed(1.0))
    for name, values in sides.items():
        np.testing.assert_array_equal(made[name], values)
        assert made[name].dtype == values.dtype
    np.testing.assert_array_equal(classes, labels)
    assert classes.dtype == labels.dtype


def test_mirrored(scenes):
    sides, labels = scenes
    made, classes = RandomScaleCrop()(sides, labels, Fixed(1.0, mirrored=True))
    np.testing.assert_array_equal(made["rgb"], sides["rgb"][:, :, ::-1])
    np.testing.assert_array_equal(classes, labels[:, :, ::-1])


def test_larger(scenes):
    """Twice as large, the last part: pixel `i` of it lies at `(8 + i + 0.5) / 2 - 0.5` columns."""
    sides, labels = scenes
    sides = {**sides, "colours": sides["rgb"].astype("float32")}
    made, classes = RandomScaleCrop()(sides, labels, Fixed(2.0, share=1.0))
    columns = (8 + np.arange(8) + 0.5) / 2 - 0.5
    assert columns[-1] == 7.25  # Beyond the middle of the last pixel, which stands for it.
    nearest = np.minimum(np.round(columns), 7)
    np.testing.assert_allclose(made["colours"][0, 0, :, 1], np.minimum(columns, 7))
    np.testing.assert_array_equal(made["depth"][0, 0, :, 0], nearest)
    np.testing.assert_array_equal(classes[0, 0], nearest)


def test_smaller(scenes):
    """Half as large, in the last corner: the rest is 0 and has no label."""
    sides, labels = scenes
    made, classes = RandomScaleCrop()(sides, labels, Fixed(0.5, share=1.0))
    nearest = np.round([0.5, 2.5, 4.5, 6.5])
    np.testing.assert_array_equal(made["depth"][0, -1, :, 0], [0, 0, 0, 0, *nearest])
    np.testing.assert_array_equal(classes[0, -1], [-1] * 4 + nearest.astype(int).tolist())
    np.testing.assert_array_equal(classes[0, 0], -1)
    assert (classes == -1).mean() == pytest.approx(0.75)
    assert not made["rgb"][classes == -1].any()


def test_distances_stay_those_of_surfaces():
    """Nothing is made up at edges or at the border."""
    depth = np.full((3, 9, 9, 1), 2.0, "float16")
    depth[:, 4:] = 5.0
    labels = np.zeros((3, 9, 9), "int8")
    made, classes = RandomScaleCrop()({"depth": depth}, labels, np.random.default_rng(1))
    assert set(np.unique(made["depth"][classes == 0])) == {2.0, 5.0}


def test_a_study_knows_it_by_its_settings():
    assert repr(RandomScaleCrop()) == repr(RandomScaleCrop())
    assert repr(RandomScaleCrop()) != repr(RandomScaleCrop((1.0, 2.0)))


def test_samples_differ_and_the_seed_repeats_them(scenes):
    sides, labels = scenes
    first = RandomScaleCrop()(sides, labels, np.random.default_rng(3))
    again = RandomScaleCrop()(sides, labels, np.random.default_rng(3))
    np.testing.assert_array_equal(first[1], again[1])
    assert not np.array_equal(first[1][0], first[1][1])
    # Both modalities and the labels still show the same place.
    inside = first[1][0] >= 0
    close = np.abs(first[0]["depth"][0, ..., 0].astype(float) - first[1][0]) <= 1
    assert close[inside].mean() > 0.7
