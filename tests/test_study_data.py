"""Hidden labels and batches of a study: the same for every method."""

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from keras_fdkd.study.batches import Batches, Pair
from keras_fdkd.study.labels import UNLABELLED, Labels
from keras_fdkd.study.splits import make_splits

SIZE = 64


def batches_of(x, labels, seed=0):
    rows = np.arange(len(labels))
    return Batches(x, rows, labels, labels != UNLABELLED, SIZE, seed)


def test_hidden_labels_keep_the_proportions_of_the_classes():
    labels = np.repeat(np.arange(3), [50, 30, 20]).astype("int32")
    hidden = Labels(labels).hidden(np.arange(100), 10, seed=0)
    assert [(hidden == label).sum() for label in (0, 1, 2, UNLABELLED)] == [5, 3, 2, 90]
    kept = hidden != UNLABELLED
    np.testing.assert_array_equal(hidden[kept], labels[kept])


@pytest.mark.parametrize("keep", [2, 5, 10])
def test_a_rare_class_keeps_a_label(keep):
    labels = np.array([0] * 97 + [1] * 3)
    rows = np.arange(100)
    for seed in range(20):
        hidden = Labels(labels).hidden(rows, keep, seed)
        kept = hidden != UNLABELLED
        # A tenth of 3 is less than one, so the rare class gets no more.
        assert np.bincount(hidden[kept]).tolist() == [keep - 1, 1]
        np.testing.assert_array_equal(hidden[kept], labels[kept])
        np.testing.assert_array_equal(hidden, Labels(labels).hidden(rows, keep, seed))
    # Classes of one sample too, by which nothing can be stratified.
    alone = np.array([0] * 97 + [1, 2, 3])
    hidden = Labels(alone).hidden(rows, 5, seed=0)
    assert np.bincount(hidden[hidden != UNLABELLED]).tolist() == [2, 1, 1, 1]


def test_a_draw_with_all_classes_stays_as_it_is():
    labels = np.repeat(np.arange(3), [50, 30, 20])
    rows = np.arange(100)
    for seed in range(5):
        drawn, _ = train_test_split(rows, train_size=10, stratify=labels, random_state=seed)
        hidden = Labels(labels).hidden(rows, 10, seed)
        np.testing.assert_array_equal(np.flatnonzero(hidden != UNLABELLED), np.sort(drawn))


def test_one_row_without_a_label_leaves_validation_stratified():
    labels = np.repeat([0, 1], [90, 10])
    labels[0] = UNLABELLED
    test = np.arange(80, 95)
    cv = [(np.setdiff1d(np.arange(100), test), test)] * 10
    for split in make_splits(Labels(labels), cv, 0.2, None, None):
        assert np.bincount(labels[split.validation]).tolist() == [16, 1]
        assert 0 in split.train


def test_groups_of_validation_lose_their_rows_without_a_label():
    labels = np.arange(60) % 2
    labels[::3] = UNLABELLED
    groups = np.repeat(np.arange(10), 6)
    cv = [(np.arange(48), np.setdiff1d(np.arange(48, 60), np.arange(0, 60, 3)))]
    [split] = make_splits(Labels(labels), cv, 0.25, groups, None)
    assert len(np.unique(groups[split.validation])) == 2
    assert not set(groups[split.validation]) & set(groups[split.train])
    # Six groups of eight stay, with all their rows.
    np.testing.assert_array_equal(np.unique(groups[split.train], return_counts=True)[1], [6] * 6)
    shared = [(np.arange(49), np.setdiff1d(np.arange(49, 60), np.arange(0, 60, 3)))]
    with pytest.raises(ValueError, match="must stay in one fold"):
        make_splits(Labels(labels), shared, 0.25, groups, None)


def test_an_epoch_reads_each_sample_once_in_an_order_of_its_own():
    labels = np.arange(200).astype("int32")
    batches = batches_of(Pair({"student": labels}), labels)
    first = [batches[step] for step in range(len(batches))]
    seen = np.concatenate([y for _, y in first])
    assert len(seen) == len(set(seen)) == 200 // SIZE * SIZE
    for x, y in first:
        np.testing.assert_array_equal(x["student"], y)
        np.testing.assert_array_equal(x["index"], y)
    batches.on_epoch_end()
    assert not np.array_equal(batches[0][1], first[0][1])
    np.testing.assert_array_equal(batches_of(labels, labels)[0][1], first[0][1])


def test_half_of_a_batch_is_labelled():
    labels = np.full(200, UNLABELLED, "int32")
    labels[:70] = 1
    batches = batches_of(np.arange(200), labels)
    counts = np.zeros(200, int)
    for step in range(len(batches)):
        rows, y = batches[step]
        assert (y != UNLABELLED).sum() == SIZE // 2
        np.add.at(counts, rows, 1)
    assert counts[:70].sum() == 96  # in 3 batches, each from whole draws of 64 of the 70
    assert counts[:70].max() == 2
    assert counts[70:].max() == 1


def test_no_sample_is_twice_in_a_batch():
    labels = np.full(200, UNLABELLED, "int32")
    labels[:7] = 1
    batches = batches_of(np.arange(200), labels)
    for step in range(len(batches)):
        rows, y = batches[step]
        assert len(rows) == len(set(rows)) == SIZE  # Unlabelled ones fill the rest.
        assert (y != UNLABELLED).sum() == 7


def moved(sides, labels, rng):
    """Adds the same number to both sides, and tells it in the labels."""
    number = int(rng.integers(1000))
    return {name: values + number for name, values in sides.items()}, labels + number


def test_augmentation_is_the_same_for_every_method():
    labels = np.arange(200).astype("int32")
    rows = np.arange(200)
    there = np.ones(200, bool)
    given = {"augment": moved, "seed": 5}
    pair = Batches(
        Pair({"teacher": labels, "student": 2 * labels}), rows, labels, there, SIZE, **given
    )
    alone = Batches(2 * labels, rows, labels, there, SIZE, **given)
    teacher = Batches(labels, rows, labels, there, SIZE, side="teacher", **given)
    numbers = set()
    for _ in range(2):
        for step in (2, 0):  # Whatever is read first.
            x, y = pair[step]
            number = y[0] - x["index"][0]
            numbers.add(int(number))
            np.testing.assert_array_equal(x["teacher"], x["index"] + number)
            np.testing.assert_array_equal(x["student"], 2 * x["index"] + number)
            np.testing.assert_array_equal(alone[step][0], x["student"])
            np.testing.assert_array_equal(teacher[step][0], x["teacher"])
            np.testing.assert_array_equal(alone[step][1], y)
        for batches in (pair, alone, teacher):
            batches.on_epoch_end()
    assert len(numbers) == 4  # batches and epochs differ
