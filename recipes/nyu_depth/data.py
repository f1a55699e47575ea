"""NYU-Depth V2 in its published layouts (Silberman et al., ECCV 2012; 1,449 labelled scenes).

    nyu_depth_v2_labeled.mat (HDF5: images, depths, labels)   splits.mat   classMapping40.mat
or  RGB/<i>.jpg  Depth/<i>.npy  Label/<i>.png  train.txt  test.txt
    (lines `RGB/2.jpg<TAB>Label/2.png`)

Distances are metres. Labels are 1 to 40, and 0 for pixels without a class, which are -1 here.
"""

import argparse
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
from PIL import Image
from scipy.io import loadmat

from keras_fdkd.study.batches import Augment
from recipes.published.data_set import PublishedData
from recipes.published.findings import Findings
from recipes.published.items import Item, Listing
from recipes.published.layout import read_table
from recipes.published.models import segmenter
from recipes.published.random_scale_crop import RandomScaleCrop
from recipes.published.store import Fields
from recipes.published.video import read_picture

WHOLE = "nyu_depth_v2_labeled.mat"
CLASSES = (
    "wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf",
    "picture", "counter", "blinds", "desk", "shelves", "curtain", "dresser", "pillow", "mirror",
    "floor mat", "clothes", "ceiling", "books", "refrigerator", "television", "paper", "towel",
    "shower curtain", "box", "whiteboard", "person", "night stand", "toilet", "sink", "lamp",
    "bathtub", "bag", "other structure", "other furniture", "other prop",
)  # fmt: skip


class NyuDepth(PublishedData):
    """Rooms, each as a picture, as a map of distances, and with the class of each pixel."""

    name = "nyu_depth"
    title = "NYU-Depth V2: rooms in colours and in distances"
    source = "NYU-Depth V2 (Silberman et al., ECCV 2012), 1,449 labelled scenes, 40 classes."
    modalities = ("depth", "rgb")
    needed = (f"{WHOLE}|RGB", "splits.mat|train.txt", "classMapping40.mat|Label")
    published = {"train": 795, "test": 654}
    columns = {"depth": "NYU depth", "rgb": "NYU RGB"}
    backbones = {"depth": "resnet_18_imagenet", "rgb": "resnet_18_imagenet"}
    size = (480, 640)
    has_pixels = True
    notes = (
        "DeepLabV3+; the paper does not say on which encoder, nor its schedule for these data.",
    )

    def __init__(
        self, folder: Path, size: tuple[int, int] | None = None, is_augmented: bool = True
    ) -> None:
        super().__init__(folder, size)
        self.is_augmented = is_augmented

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--no-augmentation",
            action="store_true",
            help="train on scenes as they are; else scaled by 0.5 to 1.75, cut and mirrored at "
            "random, which runs the teacher in every step",
        )

    @classmethod
    def own_options(cls, options: argparse.Namespace) -> dict[str, Any]:
        return {"is_augmented": not options.no_augmentation}

    def augment(self) -> Augment | None:
        return RandomScaleCrop() if self.is_augmented else None

    @cached_property
    def _is_whole(self) -> bool:
        """Whether the data are in the one file that NYU publishes."""
        return (self.root / WHOLE).exists()

    def listing(self) -> Listing:
        findings = Findings()
        items = self._of_file(findings) if self._is_whole else self._of_lists(findings)
        return Listing(items, CLASSES, findings)

    def _of_file(self, findings: Findings) -> list[Item]:
        """Return the scenes of `splits.mat`, which counts them from 1."""
        splits, count = loadmat(self.root / "splits.mat"), self._scenes()
        items = []
        for split, key in (("train", "trainNdxs"), ("test", "testNdxs")):
            for number in splits[key].ravel().tolist():
                name = f"{number - 1:04d}"
                if count is not None and not 1 <= number <= count:
                    findings.add(f"scenes of {split} are not among the {count}, left out", name)
                else:
                    items.append(Item(name, -1, split, details={"row": number - 1}))
        return items

    def _scenes(self) -> int | None:
        """Return how many scenes the file of all holds, `None` if it cannot be read."""
        try:
            with h5py.File(self.root / WHOLE) as file:
                return len(file["labels"])
        except (OSError, KeyError):  # Reading the first scene says so.
            return None

    def _of_lists(self, findings: Findings) -> list[Item]:
        items: dict[str, Item] = {}
        # Test first: what it holds is left out of training.
        for split in ("test", "train"):
            file = self.root / f"{split}.txt"
            for line, cells in read_table(file, "\t", quoted=False):
                name = Path(cells[0]).stem
                if len(cells) != 2 or not cells[0].startswith("RGB/"):
                    findings.add("lines cannot be read, left out", f"{file.name}:{line} {cells}")
                elif name in items:
                    other = items[name].split
                    kind = "repeated" if other == split else f"in {other} too"
                    findings.add(f"lines of {split} are {kind}, left out", name)
                else:
                    details = {"rgb": cells[0], "label": cells[1]}
                    items[name] = Item(name, -1, split, details=details)
        return list(items.values())

    def fields(self) -> Fields:
        size = self.picture_size
        return {
            "rgb": ((*size, 3), "uint8"),
            # Up to 10 m, where half precision is within 4 mm.
            "depth": ((*size, 1), "float16"),
            "labels": (size, "int8"),
        }

    def decode(self, item: Item) -> dict[str, np.ndarray]:
        rgb, depth, labels = self._of_scene(item) if self._is_whole else self._of_files(item)
        if not np.isfinite(depth).all():
            raise ValueError(
                f"Scene {item.name} must have finite distances. "
                f"Received: {np.count_nonzero(~np.isfinite(depth))} that are not."
            )
        size = self.picture_size[::-1]  # Pillow takes the width first.
        # Nearest pixels: a mean of two distances is no surface, one of two classes no class.
        distances = Image.fromarray(depth.astype("float32")).resize(size, Image.Resampling.NEAREST)
        classes = Image.fromarray(labels.astype("uint8")).resize(size, Image.Resampling.NEAREST)
        return {
            "rgb": np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BILINEAR)),
            "depth": np.asarray(distances)[..., np.newaxis],
            "labels": np.asarray(classes).astype("int8") - 1,
        }

    def _of_scene(self, item: Item) -> tuple[np.ndarray, ...]:
        """Read one scene out of the file of all, whose axes are MATLAB's."""
        row = item.details["row"]
        try:
            # Opened for each scene, since an open file cannot go to another process:
            # https://github.com/h5py/h5py/issues/531. Read by rows, since the whole is 2.8 GB.
            with h5py.File(self.root / WHOLE) as file:
                rgb, depth, labels = (file[key][row] for key in ("images", "depths", "labels"))
            classes = self._to_40[labels.T]
        except (OSError, KeyError, IndexError) as error:
            raise ValueError(f"Scene {item.name} of {WHOLE} cannot be read: {error}") from error
        return np.ascontiguousarray(rgb.transpose(2, 1, 0)), depth.T, classes

    @cached_property
    def _to_40(self) -> np.ndarray:
        """The number of 40, or 0, by each of the 894 labels and 0."""
        mapping = loadmat(self.root / "classMapping40.mat")["mapClass"].ravel()
        return np.concatenate([[0], mapping]).astype("uint8")

    def _of_files(self, item: Item) -> tuple[np.ndarray, ...]:
        depth_file = self.root / "Depth" / f"{item.name}.npy"
        try:
            depth = np.load(depth_file, allow_pickle=False)
            with Image.open(self.root / item.details["label"]) as picture:
                labels = np.asarray(picture)
        # NumPy raises the third for an empty file, Pillow the fourth for a broken one.
        except (OSError, ValueError, EOFError, SyntaxError) as error:
            raise ValueError(f"Scene {item.name} cannot be read: {error}") from error
        # A map of the 894 raw labels, or in colours, must not pass for classes.
        if labels.ndim != 2 or labels.max() > len(CLASSES) or depth.shape != labels.shape:
            raise ValueError(
                f"Scene {item.name} must have labels of 0 to {len(CLASSES)}, one per distance. "
                f"Received: labels {labels.shape} up to {labels.max()}, depth {depth.shape}."
            )
        return read_picture(self.root / item.details["rgb"], labels.shape), depth, labels

    def there(self, item: Item) -> Iterator[str]:
        if self._is_whole:
            return
        if not (self.root / "Depth" / f"{item.name}.npy").exists():
            yield "scenes have no depth"
        if not all((self.root / item.details[key]).exists() for key in ("rgb", "label")):
            yield "scenes have no picture or no labels"

    def build(self, modality: str, backbone: str, classes: int) -> keras.Model:
        shape, _ = self.fields()[modality]
        return segmenter(shape, classes, backbone, modality)
