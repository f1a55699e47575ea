"""AVE in its published layout (Tian et al., ECCV 2018; videos of AudioSet, CC BY 4.0 lists).

    AVE_Dataset/  AVE/<id>.mp4  Annotations.txt  trainSet.txt valSet.txt testSet.txt
                  Audios/<id>.wav  Image-01-FPS-SE/<id>/*.jpg   (used where they are there)

Lines are `Church bell&RUhOCu3LNXM&good&0&10`: category, clip, quality, and the event's first and
last second in a clip of ten.
"""

from pathlib import Path

import numpy as np

from recipes.published.clip_data import FRAMES, ClipData
from recipes.published.findings import Findings
from recipes.published.items import Item, Listing
from recipes.published.layout import read_table
from recipes.published.sound import RATE, fitted, log_power, read_sound
from recipes.published.video import (
    clip_pictures,
    read_video_sound,
    stored_size,
)

LISTS = {"test": "testSet.txt", "validation": "valSet.txt", "train": "trainSet.txt"}
# In the order of their first lines in testSet.txt, as published code numbers them.
CLASSES = (
    "Church bell", "Male speech, man speaking", "Bark", "Fixed-wing aircraft, airplane",
    "Race car, auto racing", "Female speech, woman speaking", "Helicopter", "Violin, fiddle",
    "Flute", "Ukulele", "Frying (food)", "Truck", "Shofar", "Motorcycle", "Acoustic guitar",
    "Train horn", "Clock", "Banjo", "Goat", "Baby cry, infant cry", "Bus", "Chainsaw", "Cat",
    "Horse", "Toilet flush", "Rodents, rats, mice", "Accordion", "Mandolin",
)  # fmt: skip


class Ave(ClipData):
    """Clips of ten seconds, each with one event that is both seen and heard."""

    name = "ave"
    title = "AVE: events seen and heard"
    source = "AVE (Tian et al., ECCV 2018), 4,143 clips of AudioSet, of ten seconds each."
    needed = (*LISTS.values(), "AVE|Audios", "AVE|Image-01-FPS-SE")
    published = {"train": 3339, "validation": 402, "test": 402}
    columns = {"audio": "AVE audio", "video": "AVE video"}
    seconds = 10
    # Windows of 512 samples that overlap by 353: one every 159.
    spectrogram = (257, 1 + (RATE * seconds - 512) // 159)
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
                if len(cells) != 5 or not all(map(str.isdigit, cells[3:])):
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

    def decode(self, item: Item) -> dict[str, np.ndarray]:
        sound, video = self.sounds(item)
        samples = read_sound(sound) if sound.exists() else read_video_sound(video)
        start, end = item.details["start"], item.details["end"]
        event = samples[start * RATE : end * RATE]
        # A clip may end before its event: then all of it is heard.
        heard = fitted(event if len(event) else samples, RATE * self.seconds)
        spectrogram = log_power(heard)
        # Silence has no deviation to divide by.
        spectrogram = (spectrogram - spectrogram.mean()) / (spectrogram.std() + 1e-9)
        size = stored_size(self.picture_size)
        return {
            **self.sound_arrays(heard, spectrogram),
            "video": clip_pictures(*self.pictures(item), size, FRAMES, (start, end)),
        }

    def sounds(self, item: Item) -> list[Path]:
        return [self.root / "Audios" / f"{item.name}.wav", self.pictures(item)[1]]

    def pictures(self, item: Item) -> tuple[Path, Path]:
        folder = self.root / "Image-01-FPS-SE" / item.name
        return folder, self.root / "AVE" / f"{item.name}.mp4"
