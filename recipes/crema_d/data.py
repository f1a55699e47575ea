"""CREMA-D in its published layout (Cao et al. 2014, Open Database License).

    CREMA-D/  AudioWAV/*.wav  VideoFlash/*.flv  train.csv  test.csv
              Image-01-FPS/<clip>/00000.jpg     (used in place of the videos where it is there)

The lists, without a head, have rows such as `1088_IOM_NEU_XX,NEU`: actor, sentence, emotion and
level of a clip.
"""

from pathlib import Path

import numpy as np

from recipes.published.clip_data import FRAMES, ClipData
from recipes.published.findings import Findings
from recipes.published.items import Item, Listing
from recipes.published.layout import read_table
from recipes.published.sound import RATE, fitted, log_power, read_sound
from recipes.published.video import clip_pictures, stored_size

# In the order in which published code numbers them.
EMOTIONS = {
    "NEU": "neutral", "HAP": "happy", "SAD": "sad", "FEA": "fear", "DIS": "disgust", "ANG": "anger",
}  # fmt: skip


class CremaD(ClipData):
    """Clips of 91 actors who speak twelve sentences with six emotions."""

    name = "crema_d"
    title = "CREMA-D: emotions from faces and voices"
    source = (
        "CREMA-D (Cao et al., IEEE Transactions on Affective Computing 2014), 7,442 clips, Open "
        "Database License."
    )
    needed = ("AudioWAV", "VideoFlash|Image-01-FPS", "train.csv", "test.csv")
    published = {"train": 6698, "test": 744}
    columns = {"audio": "CREMA-D audio", "video": "CREMA-D video"}
    seconds = 3
    # Windows of 512 samples that overlap by 353: one every 159.
    spectrogram = (257, 1 + (RATE * seconds - 512) // 159)
    has_groups = True
    notes = (
        "The published split has the same 91 actors in training and test, so it does not tell how "
        "well a voice or a face that was never seen is read: `--split group` holds actors out.",
    )

    def listing(self) -> Listing:
        findings = Findings()
        numbers = {emotion: number for number, emotion in enumerate(EMOTIONS)}
        items: dict[str, Item] = {}
        # Test first: what it holds is left out of training.
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

    def decode(self, item: Item) -> dict[str, np.ndarray]:
        samples = fitted(read_sound(*self.sounds(item)), RATE * self.seconds)
        pictures = clip_pictures(*self.pictures(item), stored_size(self.picture_size), FRAMES)
        return {**self.sound_arrays(samples, log_power(samples)), "video": pictures}

    def sounds(self, item: Item) -> list[Path]:
        return [self.root / "AudioWAV" / f"{item.name}.wav"]

    def pictures(self, item: Item) -> tuple[Path, Path]:
        folder = self.root / "Image-01-FPS" / item.name
        return folder, self.root / "VideoFlash" / f"{item.name}.flv"
