"""PublishedData: one of the paper's data sets in a folder of the user's."""

import argparse
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import keras
import numpy as np
from sklearn.model_selection import train_test_split

from keras_fdkd.study.batches import Augment
from recipes.published.items import SPLITS, Item, Listing
from recipes.published.layout import find_root
from recipes.published.store import Fields, Store
from recipes.shared.group_folds import Rows, group_folds


class PublishedData(ABC):
    """What a recipe knows of a data set: its layout, its samples and the paper's models.

    A subclass says the class attributes and the abstract methods.

    Attributes:
        name: Of the recipe.
        title: In words, for the report.
        source: Where users find the data, and their licence.
        modalities: Both names.
        needed: What the root of the folder holds, see `recipes.published.layout.find_root`.
        published: Number of samples in each split, as published.
        columns: By the student's modality, the column of the paper's table, if it has one.
        backbones: Of the paper, by modality.
        missing: Fraction of samples that may be missing or broken.
        has_pixels: Whether labels are those of pixels, the array `labels` of the store.
        has_groups: Whether samples name groups, see `split`.
        notes: What a reader of the report must know of the data.

    Args:
        folder: That the user named.
        size: Height and width of a model's pictures.

    Raises:
        FileNotFoundError: If the folder is not the data set's.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    source: ClassVar[str]
    modalities: ClassVar[tuple[str, str]]
    needed: ClassVar[Sequence[str]]
    published: ClassVar[Mapping[str, int]]
    columns: ClassVar[Mapping[str, str]]
    backbones: ClassVar[Mapping[str, str]]
    size: ClassVar[tuple[int, int]] = (224, 224)
    missing: ClassVar[float] = 0.1
    has_pixels: ClassVar[bool] = False
    has_groups: ClassVar[bool] = False
    notes: ClassVar[Sequence[str]] = ()

    def __init__(self, folder: Path, size: tuple[int, int] | None = None) -> None:
        self.root = find_root(folder, self.needed)
        self.picture_size = tuple(size or self.size)

    @abstractmethod
    def listing(self) -> Listing:
        """Read the lists."""

    @abstractmethod
    def fields(self) -> Fields:
        """Return shape and dtype of what `decode` returns."""

    @abstractmethod
    def decode(self, item: Item) -> dict[str, np.ndarray]:
        """Read one sample from the published files.

        Raises:
            ValueError: If a file is missing or broken.
        """

    @abstractmethod
    def build(self, modality: str, backbone: str, classes: int) -> keras.Model:
        """Return a new model that gives logits, see `recipes.published.models`."""

    def settings(self) -> dict[str, Any]:
        """Return what prepared arrays depend on besides the lists and the fields."""
        return {}

    def there(self, item: Item) -> Iterator[str]:
        """Yield what is missing of a sample, in words, without reading its files."""
        yield from ()

    def inputs(self, modality: str, backbone: str, store: Store) -> Any:
        """Return what a model of a modality sees, of all samples of the store."""
        return store.array(modality)

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        """Add options of the recipe's own: none."""
        return

    @classmethod
    def own_options(cls, options: argparse.Namespace) -> dict[str, Any]:
        """Return the arguments that these options give to the class."""
        return {}

    def augment(self) -> Augment | None:
        """Return what changes both modalities and the labels of a training batch alike: nothing."""
        return None

    def split(self, items: Sequence[Item], kind: str, count: int) -> list[Rows]:
        """Return rows of training, validation and test.

        Args:
            items: That were prepared.
            kind: `"published"`, of which a seventh of the training samples validates where the
                lists say nothing else, or `"group"`, random splits that keep groups together.
            count: Of random splits.
        """
        if kind == "group":
            return group_folds(np.array([item.group for item in items]), count)
        rows = np.arange(len(items))
        names = np.array([item.split for item in items])
        train, chosen, test = (rows[names == name] for name in SPLITS)
        if not len(chosen):
            labels = np.array([items[row].label for row in train])
            counts = np.unique(labels, return_counts=True)[1]
            # scikit-learn refuses to stratify by a class of one sample,
            # or into a part that is smaller than the number of classes.
            enough = counts.min() > 1 and len(labels) > 7 * len(counts)
            train, chosen = train_test_split(
                train, test_size=1 / 7, stratify=labels if enough else None, random_state=0
            )
        return [(np.sort(train), np.sort(chosen), test)]
