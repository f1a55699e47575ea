"""AVE in its published layout (Tian et al., ECCV 2018; videos of AudioSet, CC BY 4.0 lists).

    AVE_Dataset/  AVE/<id>.mp4  Annotations.txt  trainSet.txt valSet.txt testSet.txt
                  Audios/<id>.wav  Image-01-FPS-SE/<id>/*.jpg   (used where they are there)

Lines are `Church bell&RUhOCu3LNXM&good&0&10`: category, clip, quality, and the event's first and
last second in a clip of ten.
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
from recipes.published.video import (
    clip_pictures,
    missing_pictures,
    read_video_sound,
    stored_size,
)

SECONDS, FRAMES = 10, 3
LISTS = {"test": "testSet.txt", "validation": "valSet.txt", "train": "trainSet.txt"}
CLASSES = (
    "Church bell", "Male speech, man speaking", "Bark", "Fixed-wing aircraft, airplane",
    "Race car, auto racing", "Female speech, woman speaking", "Helicopter", "Violin, fiddle",
    "Flute", "Ukulele", "Frying (food)", "Truck", "Shofar", "Motorcycle", "Acoustic guitar",
    "Train horn", "Clock", "Banjo", "Goat", "Baby cry, infant cry", "Bus", "Chainsaw", "Cat",
    "Horse", "Toilet flush", "Rodents, rats, mice", "Accordion", "Mandolin",
)  # fmt: skip


class Ave(PublishedData):
    """Clips of ten seconds, each with one event that is both seen and heard."""

    name = "ave"
    title = "AVE: events seen and heard"
    source = "AVE (Tian et al., ECCV 2018), 4,143 clips of AudioSet, of ten seconds each."
    modalities = ("audio", "video")
    needed = (*LISTS.values(), "AVE|Audios", "AVE|Image-01-FPS-SE")
    published = {"train": 3339, "validation": 402, "test": 402}
    columns = {"audio": "AVE audio", "video": "AVE video"}
    backbones = {"audio": "resnet_18", "video": "resnet_18"}
    notes = (
        "The published training list shares clips with those of validation and test. They are left "
        "out of training, and so are repeats: figures are not those of the lists as they are.",
    )

    def listing(self) -> Listing:
        findings = Findings()
        numbers = {name: number for number, name in enumerate(CLASSES)}
        items: dict[str, Item] = {}
        for split, name in LISTS.items():  # Test first: what it holds is left out of the others.
            for line, cells in read_table(self.root / name, "&", quoted=False):
                told = f"{name}:{line} {'&'.join(cells)}"
                if len(cells) != 5 or not (cells[3] + cells[4]).isdigit():
                    findings.add("lines cannot be read, left out", told)
                elif cells[0] not in numbers:
                    findings.add("lines have an unknown category, left out", told)
                elif cells[1] in items:
                    other = items[cells[1]].split
                    kind = "repeated" if other == split else f"in {other} too"
                    findings.add(f"lines of {split} are {kind}, left out", cells[1])
                else:
                    span = {"start": int(cells[3]), "end": int(cells[4])}
                    items[cells[1]] = Item(cells[1], numbers[cells[0]], split, details=span)
        return Listing(list(items.values()), list(CLASSES), findings)

    def fields(self) -> Fields:
        steps = 1 + (RATE * SECONDS - 512) // 159
        pictures = (FRAMES, *stored_size(self.picture_size), 3)
        return {"audio": ((257, steps), "float16"), "video": (pictures, "uint8")}

    def decode(self, item: Item) -> dict[str, np.ndarray]:
        sound, video = self._sound(item), self._video(item)
        samples = read_sound(sound) if sound.exists() else read_video_sound(video)
        start, end = item.details["start"], item.details["end"]
        event = samples[start * RATE : end * RATE]
        spectrogram = log_power(fitted(event if len(event) else samples, RATE * SECONDS))
        size = stored_size(self.picture_size)
        return {
            "audio": (spectrogram - spectrogram.mean()) / (spectrogram.std() + 1e-9),
            "video": clip_pictures(self._pictures(item), video, size, FRAMES, (start, end)),
        }

    def there(self, item: Item) -> Iterator[str]:
        video = self._video(item)
        if not self._sound(item).exists() and not video.exists():
            yield "clips have no sound"
        if missing_pictures(self._pictures(item), video):
            yield "clips have no picture"

    def build(self, modality: str, backbone: str, classes: int) -> keras.Model:
        shape, _ = self.fields()[modality]
        if modality == "audio":
            return sound_model(shape, classes, backbone)
        return picture_model(shape, self.picture_size, classes, backbone)

    def _sound(self, item: Item) -> Path:
        return self.root / "Audios" / f"{item.name}.wav"

    def _video(self, item: Item) -> Path:
        return self.root / "AVE" / f"{item.name}.mp4"

    def _pictures(self, item: Item) -> Path:
        return self.root / "Image-01-FPS-SE" / item.name
