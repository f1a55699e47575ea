"""What pretrained encoders see in all emoji, computed once and kept beside this file.

Sentence embeddings of the names by all-MiniLM-L6-v2 (Apache-2.0), pooled features of the pictures
by EfficientNet-Lite0 (Apache-2.0), of OpenMoji 17 (CC BY-SA 4.0), in half precision. With
`recipes.emoji.encoders` and the packages that it names, `python -m recipes.emoji.features` makes
the file anew.
"""

import hashlib
from pathlib import Path

import numpy as np

from keras_fdkd.files import written_whole
from recipes.emoji.data import EmojiData, load_emoji

FILE = Path(__file__).with_name("features.npz")


def load_features(data: EmojiData) -> dict[str, np.ndarray]:
    """Return the features of emoji, float32: `text` of 384 and `image` of 1280 numbers each.

    Raises:
        ValueError: If the file is of other emoji.
    """
    with np.load(FILE, allow_pickle=False) as file:
        if str(file["emoji"]) != _digest(data):
            raise ValueError(
                f"{FILE.name} is of other emoji than these {len(data.names)}. Run `python -m "
                "recipes.emoji.features`, which makes it anew with the pretrained encoders."
            )
        return {name: file[name].astype("float32") for name in ("text", "image")}


def _digest(data: EmojiData) -> str:
    return hashlib.sha256("\n".join(data.names).encode()).hexdigest()


def main() -> None:
    """Run both encoders and write the file."""
    from recipes.emoji.encoders import image_features, text_features

    data = load_emoji()
    found = {"text": text_features(data.names), "image": image_features(data.pictures)}
    # Half precision, since the file is committed: it has 3 MB.
    half = {name: values.astype("float16") for name, values in found.items()}
    with written_whole(FILE) as part:
        np.savez_compressed(part, emoji=_digest(data), **half)


if __name__ == "__main__":
    main()
