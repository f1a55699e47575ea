"""ClipData: data sets of clips, each a sound and pictures of a video."""

from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import keras

from recipes.published.data_set import PublishedData
from recipes.published.items import Item
from recipes.published.models import picture_model, sound_model
from recipes.published.store import Fields
from recipes.published.video import missing_pictures, stored_size

FRAMES = 3  # of the one a second that are extracted, kept of each clip


class ClipData(PublishedData):
    """A data set of clips. A subclass says where the files of a clip are, and its spectrogram.

    Attributes:
        spectrogram: Bins and steps of a clip's spectrogram.
        steps: How many neighbouring steps of it a model sees, `None` for all.
    """

    modalities = ("audio", "video")
    backbones: ClassVar[dict[str, str]] = {"audio": "resnet_18", "video": "resnet_18"}
    spectrogram: ClassVar[tuple[int, int]]
    steps: ClassVar[int | None] = None

    @abstractmethod
    def sounds(self, item: Item) -> list[Path]:
        """Return the files that the sound may be in; the first one that is there is read."""

    @abstractmethod
    def pictures(self, item: Item) -> tuple[Path, Path]:
        """Return the folder of a clip's pictures, and the video that is read if there are none."""

    def fields(self) -> Fields:
        pictures = (FRAMES, *stored_size(self.picture_size), 3)
        return {"audio": (self.spectrogram, "float16"), "video": (pictures, "uint8")}

    def there(self, item: Item) -> Iterator[str]:
        if not any(path.exists() for path in self.sounds(item)):
            yield "clips have no sound"
        if missing_pictures(*self.pictures(item)):
            yield "clips have no picture"

    def build(self, modality: str, backbone: str, classes: int) -> keras.Model:
        shape, _ = self.fields()[modality]
        if modality == "audio":
            return sound_model(shape, classes, backbone, self.steps)
        return picture_model(shape, self.picture_size, classes, backbone)
