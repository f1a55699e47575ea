"""CrisisMMD v2.0 in its published layout (Alam et al., ICWSM 2018, CC BY-NC-SA 4.0).

CrisisMMD_v2.0/  data_image/<event>/<d_m_yyyy>/<tweet_id>_<n>.jpg
crisismmd_datasplit_agreed_label/task_humanitarian_text_img_agreed_lab_{train,dev,test}.tsv
crisismmd_datasplit_agreed_label/task_informative_text_img_agreed_lab_{train,dev,test}.tsv
"""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from recipes.published.backbones import text_inputs
from recipes.published.data_set import PublishedData
from recipes.published.findings import Findings
from recipes.published.items import Item, Listing
from recipes.published.layout import read_table
from recipes.published.models import picture_model, text_model
from recipes.published.store import Fields, Store
from recipes.published.video import read_picture, stored_size

TASKS = {
    "humanitarian": (
        "not_humanitarian", "other_relevant_information",
        "rescue_volunteering_or_donation_effort", "infrastructure_and_utility_damage",
        "affected_individuals",
    ),
    "informative": ("not_informative", "informative"),
}  # fmt: skip
COUNTS = {
    "humanitarian": {"train": 6126, "validation": 998, "test": 955},
    "informative": {"train": 9601, "validation": 1573, "test": 1534},
}
# Test first: what it holds is left out of the others.
LISTS = {"test": "test", "validation": "dev", "train": "train"}
FOLDER = "crisismmd_datasplit_agreed_label"
COLUMNS = ("tweet_id", "image_id", "tweet_text", "image", "label_text")
TOKENS = 64


class CrisisMmd(PublishedData):
    """Tweets of seven disasters of 2017 whose text and picture have the same label.

    Args:
        folder, size: See `PublishedData`.
        task: `"humanitarian"`, five classes, or `"informative"`, two.
    """

    name = "crisis_mmd"
    title = "CrisisMMD: texts and pictures of tweets about disasters"
    source = "CrisisMMD v2.0 (Alam et al., ICWSM 2018), tweets with agreed labels, CC BY-NC-SA 4.0."
    modalities = ("text", "image")
    needed = (FOLDER, "data_image")
    published = COUNTS["humanitarian"]
    columns = {"text": "CrisisMMD text", "image": "CrisisMMD image"}
    backbones = {"text": "bert_base_en_uncased", "image": "mobilenet_v3_large_100_imagenet"}
    notes = (
        "The paper does not say which task it has; its accuracies fit the humanitarian one. It "
        "names BERT-base and MobileNet, not their presets.",
    )

    def __init__(
        self, folder: Path, size: tuple[int, int] | None = None, task: str = "humanitarian"
    ) -> None:
        super().__init__(folder, size)
        self.task, self.published = task, COUNTS[task]
        if task != "humanitarian":
            self.columns = {}
            self.notes = (
                *self.notes,
                f"This is the {task} task, so the paper's figures are left out.",
            )

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--task", choices=TASKS, default="humanitarian", help="which labels")

    @classmethod
    def own_options(cls, options: argparse.Namespace) -> dict[str, Any]:
        return {"task": options.task}

    def settings(self) -> dict[str, Any]:
        return {"task": self.task}

    def listing(self) -> Listing:
        findings = Findings()
        numbers = {name: number for number, name in enumerate(TASKS[self.task])}
        items: dict[str, Item] = {}
        splits: dict[str, str] = {}  # of each tweet
        for split, part in LISTS.items():
            file = self.root / FOLDER / f"task_{self.task}_text_img_agreed_lab_{part}.tsv"
            if not file.is_file():
                raise FileNotFoundError(f"The list {file} is missing.")
            # A tweet may begin with a quotation mark that nothing closes: it would swallow lines.
            lines = read_table(file, "\t", quoted=False)
            columns = {name: place for place, name in enumerate(next(lines, (0, []))[1])}
            if missing := [name for name in COLUMNS if name not in columns]:
                raise ValueError(f"The first line of {file} must name the columns {missing} too.")
            for line, cells in lines:
                told = f"{file.name}:{line}"
                if len(cells) != len(columns):
                    findings.add("lines cannot be read, left out", told)
                    continue
                # In these lists the labels of text and picture agree.
                # A tweet may have several pictures, so the picture names the sample.
                label, name = cells[columns["label_text"]], cells[columns["image_id"]]
                if label not in numbers:
                    findings.add("lines have an unknown label, left out", f"{told} {label}")
                elif name in items:
                    findings.add("pictures are in the lists twice, left out", f"{told} {name}")
                elif splits.setdefault(cells[columns["tweet_id"]], split) != split:
                    # Another picture, but the same text.
                    findings.add("tweets are in two lists, left out of one", f"{told} {name}")
                else:
                    text = repaired(cells[columns["tweet_text"]])
                    details = {"text": text, "image": cells[columns["image"]]}
                    items[name] = Item(name, numbers[label], split, details=details)
        return Listing(list(items.values()), list(TASKS[self.task]), findings)

    def fields(self) -> Fields:
        # A tweet is one picture: the models of pictures see one of several.
        return {"image": ((1, *stored_size(self.picture_size), 3), "uint8")}

    def decode(self, item: Item) -> dict[str, np.ndarray]:
        picture = read_picture(self._picture(item), stored_size(self.picture_size))
        return {"image": picture[np.newaxis]}

    def there(self, item: Item) -> Iterator[str]:
        if not self._picture(item).exists():
            yield "tweets have no picture"

    def inputs(self, modality: str, backbone: str, store: Store) -> Any:
        if modality == "image":
            return super().inputs(modality, backbone, store)
        # Tokens depend on the backbone, so they are not prepared as pictures are.
        return text_inputs(backbone, [item.details["text"] for item in store.items], TOKENS)

    def build(self, modality: str, backbone: str, classes: int) -> keras.Model:
        if modality == "text":
            return text_model(classes, backbone, TOKENS)
        return picture_model(self.fields()["image"][0], self.picture_size, classes, backbone)

    def _picture(self, item: Item) -> Path:
        return self.root / item.details["image"]


def repaired(text: str) -> str:
    """Return a text whose UTF-8 was taken for Latin-1 or Windows-1252, as it was at first.

    Example:
    >>> repaired("cafÃ©"), repaired("café"), repaired("cafÃ© 🔥 cafÃ©")
    ('café', 'café', 'café 🔥 café')
    """
    return _RUNS.sub(_decoded, text)


def _decoded(run: re.Match) -> str:
    try:
        return bytes(map(_BYTES.get, run[0])).decode("utf-8")
    except UnicodeError:  # Characters that were right are no UTF-8 as bytes.
        return run[0]


# Windows-1252 leaves five bytes out, which such texts have as in Latin-1.
_BYTES = {
    bytes([byte]).decode(encoding, "ignore"): byte
    for encoding in ("latin-1", "cp1252")
    for byte in range(0x80, 0x100)
}
_BYTES.pop("")
_RUNS = re.compile(f"[{''.join(map(re.escape, _BYTES))}]{{2,}}")
