"""Fifty classes of VGGSound (Chen et al., ICASSP 2020; lists CC BY 4.0, clips from YouTube).

    VGGSound/  train_tiny.csv test_tiny.csv   (or the official vggsound.csv of all 309 classes)
      train-videos/train-set-img/Image-01-FPS/<id>_<start:06d>.mp4/*.jpg   (a folder named .mp4)
      train-videos/train-set/<id>_<start:06d>.mp4   (read where there are no such pictures)
      train-audios/train-set/<id>_<start:06d>.wav   (the same of test)

Lines are `id,start,label,split`, the label in quotes where it has a comma.
"""

from pathlib import Path

import numpy as np

from recipes.published.clip_data import FRAMES, ClipData
from recipes.published.findings import Findings
from recipes.published.items import Item, Listing
from recipes.published.layout import first_existing, read_table
from recipes.published.sound import RATE, fitted, log_magnitude, read_sound
from recipes.published.video import clip_pictures, stored_size

# In alphabetical order: numbers by the first file found would shift with missing clips.
CLASSES = (
    "alarm clock ringing", "baby laughter", "blowtorch igniting", "car engine idling",
    "cat meowing", "cell phone buzzing", "cow lowing", "cutting hair with electric trimmers",
    "dog barking", "dog growling", "dog howling", "dog whimpering", "eating with cutlery",
    "ferret dooking", "firing muskets", "footsteps on snow", "goose honking", "helicopter",
    "horse neighing", "otter growling", "people coughing", "people eating crisps",
    "people farting", "people hiccup", "people marching", "people slapping", "people sniggering",
    "pigeon, dove cooing", "plastic bottle crushing", "playing accordion",
    "playing acoustic guitar", "playing bongo", "playing clarinet", "playing congas",
    "playing double bass", "playing snare drum", "playing tennis", "playing timbales",
    "playing trumpet", "playing tuning fork", "pumping water", "sea lion barking",
    "smoke detector beeping", "strike lighter", "subway, metro, underground", "thunder",
    "tornado roaring", "turkey gobbling", "waterfall burbling", "wind noise",
)  # fmt: skip
OFFICIAL = "vggsound.csv"


class VggSound(ClipData):
    """Clips of ten seconds, in which a sound is heard and what makes it is seen."""

    name = "vggsound"
    title = "VGGSound, 50 classes: sounds and what makes them"
    source = "VGGSound (Chen et al., ICASSP 2020), 50 of its classes, lists CC BY 4.0."
    needed = (f"train_tiny.csv|{OFFICIAL}", f"test_tiny.csv|{OFFICIAL}", "train-audios")
    published = {"train": 25835, "test": 2500}
    columns = {"audio": "VGGSound audio", "video": "VGGSound video"}
    seconds = 10
    spectrogram = (129, 1 + RATE * seconds // 128)
    steps = 626  # five seconds, any while training
    seen = FRAMES  # the mean over all three, as published
    missing = 0.3
    notes = (
        "Clips vanish from YouTube: figures of two copies of the data set differ by that too.",
    )

    def listing(self) -> Listing:
        findings = Findings()
        numbers = {name: number for number, name in enumerate(CLASSES)}
        items: dict[str, Item] = {}
        # Test first: what it holds is left out of training.
        for split in ("test", "train"):
            file = first_existing(self.root / f"{split}_tiny.csv", self.root / OFFICIAL)
            is_official = file.name == OFFICIAL
            for line, cells in read_table(file):
                told = f"{file.name}:{line} {','.join(cells)}"
                if len(cells) != 4 or not cells[1].isdigit():
                    findings.add("lines cannot be read, left out", told)
                    continue
                clip = f"{cells[0]}_{int(cells[1]):06d}"
                if is_official and (cells[3] != split or cells[2] not in numbers):
                    continue  # The official list has both splits and all classes.
                if cells[2] not in numbers:
                    findings.add("lines have an unknown class, left out", told)
                elif clip in items:
                    other = items[clip].split
                    kind = "repeated" if other == split else f"in {other} too"
                    findings.add(f"lines of {split} are {kind}, left out", clip)
                else:
                    items[clip] = Item(clip, numbers[cells[2]], split)
        return Listing(list(items.values()), list(CLASSES), findings)

    def decode(self, item: Item) -> dict[str, np.ndarray]:
        samples = fitted(read_sound(*self.sounds(item)), RATE * self.seconds)
        size = stored_size(self.picture_size)
        return {
            **self.sound_arrays(samples, log_magnitude(samples)),
            "video": clip_pictures(*self.pictures(item), size, FRAMES),
        }

    def sounds(self, item: Item) -> list[Path]:
        return [self.root / f"{item.split}-audios" / f"{item.split}-set" / f"{item.name}.wav"]

    def pictures(self, item: Item) -> tuple[Path, Path]:
        videos = self.root / f"{item.split}-videos"
        pictures = videos / f"{item.split}-set-img" / "Image-01-FPS" / f"{item.name}.mp4"
        return pictures, videos / f"{item.split}-set" / f"{item.name}.mp4"
