"""CREMA-D in its published layout (Cao et al. 2014, Open Database License).

    CREMA-D/  AudioWAV/*.wav  VideoFlash/*.flv  train.csv  test.csv
              Image-01-FPS/<clip>/00000.jpg     (used in place of the videos where it is there)

The lists, without a head, have rows such as `1088_IOM_NEU_XX,NEU`: actor, sentence, emotion and
level of a clip.
"""

from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np

from recipes.published.data_set import PublishedData
from recipes.published.findings import Findings
from recipes.published.items import Item, Listing
from recipes.published.layout import read_table
from recipes.published.models import picture_model, sound_model
from recipes.published.sound import RATE, fitted, log_power, read_sound
from recipes.published.store import Fields
from recipes.published.video import clip_pictures, missing_pictures, stored_size

EMOTIONS = {
    "NEU": "neutral", "HAP": "happy", "SAD": "sad", "FEA": "fear", "DIS": "disgust", "ANG": "anger",
}  # fmt: skip
SECONDS = 3
FRAMES = 3  # of the one a second that a clip of up to 5 seconds gives


class CremaD(PublishedData):
    """Clips of 91 actors who speak twelve sentences with six emotions."""

    name = "crema_d"
    title = "CREMA-D: emotions from faces and voices"
    source = (
        "CREMA-D (Cao et al., IEEE Transactions on Affective Computing 2014), 7,442 clips, Open "
        "Database License."
    )
    modalities = ("audio", "video")
    needed = ("AudioWAV", "VideoFlash|Image-01-FPS", "train.csv", "test.csv")
    published = {"train": 6698, "test": 744}
    columns = {"audio": "CREMA-D audio", "video": "CREMA-D video"}
    backbones = {"audio": "resnet_18", "video": "resnet_18"}
    has_groups = True
    notes = (
        "The published split has the same 91 actors in training and test, so it does not tell how "
        "well a voice or a face that was never seen is read: `--split group` holds actors out.",
    )

    def listing(self) -> Listing:
        findings = Findings()
        numbers = {emotion: number for number, emotion in enumerate(EMOTIONS)}
        items: dict[str, Item] = {}
        for split in ("test", "train"):
            file = self.root / f"{split}.csv"
            for line, cells in read_table(file):
                clip, parts = Path(cells[0]).stem, Path(cells[0]).stem.split("_")
                if len(parts) != 4 or parts[2] not in numbers:
                    findings.add("lines name no clip, left out", f"{file.name}:{line} {cells[0]!r}")
                elif len(cells) > 1 and cells[1] != parts[2]:
                    told = f"{file.name}:{line} {clip} {cells[1]}"
                    findings.add("lines have another emotion than their clip, left out", told)
                elif clip in items:
                    told = f"{file.name}:{line} {clip}"
                    findings.add("clips are in the lists twice, left out of training", told)
                else:
                    items[clip] = Item(clip, numbers[parts[2]], split, parts[0])
        actors = [
            {one.group for one in items.values() if one.split == s} for s in ("train", "test")
        ]
        findings.extend("actors are in training and test", sorted(actors[0] & actors[1]))
        return Listing(list(items.values()), list(EMOTIONS.values()), findings)

    def fields(self) -> Fields:
        steps = 1 + (RATE * SECONDS - 512) // 159
        pictures = (FRAMES, *stored_size(self.picture_size), 3)
        return {"audio": ((257, steps), "float16"), "video": (pictures, "uint8")}

    def decode(self, item: Item) -> dict[str, np.ndarray]:
        samples = read_sound(self._sound(item))
        pictures = clip_pictures(*self._pictures(item), stored_size(self.picture_size), FRAMES)
        return {"audio": log_power(fitted(samples, RATE * SECONDS)), "video": pictures}

    def there(self, item: Item) -> Iterator[str]:
        if not self._sound(item).exists():
            yield "clips have no sound"
        if missing_pictures(*self._pictures(item)):
            yield "clips have no picture"

    def build(self, modality: str, backbone: str, classes: int) -> keras.Model:
        shape, _ = self.fields()[modality]
        if modality == "audio":
            return sound_model(shape, classes, backbone)
        return picture_model(shape, self.picture_size, classes, backbone)

    def _sound(self, item: Item) -> Path:
        return self.root / "AudioWAV" / f"{item.name}.wav"

    def _pictures(self, item: Item) -> tuple[Path, Path]:
        folder = self.root / "Image-01-FPS" / item.name
        return folder, self.root / "VideoFlash" / f"{item.name}.flv"
