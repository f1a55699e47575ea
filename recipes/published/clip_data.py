"""ClipData: data sets of clips, each a sound and pictures of a video."""

import argparse
import functools
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from recipes.published.backbones import sound_converter
from recipes.published.data_set import PublishedData
from recipes.published.items import Item
from recipes.published.models import heard_model, picture_model, sound_model
from recipes.published.sound import RATE
from recipes.published.store import Fields, Store
from recipes.published.video import missing_pictures, stored_size

FRAMES = 3  # of the one a second that are extracted, kept of each clip
_LARGEST = 32767  # of 16 bits, as most files hold sound


class ClipData(PublishedData):
    """A data set of clips. A subclass says where the files of a clip are, and its spectrogram.

    Attributes:
        spectrogram: Bins and steps of a clip's spectrogram.
        steps: How many neighbouring steps of it a model sees, `None` for all.
        seen: How many neighbouring pictures of a clip a model sees, of the `FRAMES` that are kept.
        seconds: Length of a clip's sound.

    Args:
        folder: See `PublishedData`.
        size: See `PublishedData`.
        waveforms: Whether the sound itself is kept too, which audio backbones hear.
    """

    modalities = ("audio", "video")
    backbones: ClassVar[dict[str, str]] = {"audio": "resnet_18", "video": "resnet_18"}
    spectrogram: ClassVar[tuple[int, int]]
    steps: ClassVar[int | None] = None
    seen: ClassVar[int] = 1
    seconds: ClassVar[int]

    def __init__(
        self, folder: Path, size: tuple[int, int] | None = None, waveforms: bool = False
    ) -> None:
        super().__init__(folder, size)
        self.waveforms = waveforms

    @abstractmethod
    def sounds(self, item: Item) -> list[Path]:
        """Return the files that the sound may be in; the first one that is there is read."""

    @abstractmethod
    def pictures(self, item: Item) -> tuple[Path, Path]:
        """Return the folder of a clip's pictures, and the video that is read if there are none."""

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--waveforms",
            action="store_true",
            help="keep the sounds too, for audio backbones (Whisper, Moonshine) instead of "
            "spectrograms; for prepare and run",
        )

    @classmethod
    def own_options(cls, options: argparse.Namespace) -> dict[str, Any]:
        return {"waveforms": options.waveforms}

    def fields(self) -> Fields:
        pictures = (FRAMES, *stored_size(self.picture_size), 3)
        waves = {"waveform": ((RATE * self.seconds,), "int16")} if self.waveforms else {}
        return {"audio": (self.spectrogram, "float16"), "video": (pictures, "uint8"), **waves}

    def sound_arrays(self, samples: np.ndarray, spectrogram: np.ndarray) -> dict[str, np.ndarray]:
        """Return what is kept of a sound, a part of what `decode` returns."""
        if not self.waveforms:
            return {"audio": spectrogram}
        # Resampling may overshoot 1, which would wrap around in 16 bits.
        whole = np.round(_LARGEST * np.clip(samples, -1, 1)).astype("int16")
        return {"audio": spectrogram, "waveform": whole}

    def there(self, item: Item) -> Iterator[str]:
        if not any(path.exists() for path in self.sounds(item)):
            yield "clips have no sound"
        if missing_pictures(*self.pictures(item)):
            yield "clips have no picture"

    def inputs(self, modality: str, backbone: str, store: Store) -> Any:
        if modality != "audio" or sound_converter(backbone) is None:
            return store.array(modality)
        if not self.waveforms:
            raise SystemExit(
                f"The audio backbone '{backbone}' hears the sound itself: prepare and run with "
                "--waveforms."
            )
        # Made for each batch: what an encoder takes of all clips would be gigabytes.
        return functools.partial(_heard, store, backbone)

    def build(self, modality: str, backbone: str, classes: int) -> keras.Model:
        shape, _ = self.fields()[modality]
        if modality == "video":
            return picture_model(shape, self.picture_size, classes, backbone, self.seen)
        if sound_converter(backbone) is not None:
            return heard_model(RATE * self.seconds, classes, backbone)
        return sound_model(shape, classes, backbone, self.steps)


def _heard(store: Store, backbone: str, rows: np.ndarray) -> np.ndarray:
    """Return what an audio backbone takes, of some clips."""
    waveforms = store.array("waveform")[rows].astype("float32") / _LARGEST
    return ops.convert_to_numpy(sound_converter(backbone)(waveforms))
