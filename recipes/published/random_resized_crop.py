"""RandomResizedCrop: a random part of each picture, brought to one size."""

import math
from typing import Any

import keras
from keras import ops

AREA = (0.08, 1.0)
RATIO = (3 / 4, 4 / 3)


@keras.saving.register_keras_serializable(package="keras_fdkd_recipes")
class RandomResizedCrop(keras.layers.Layer):
    """Bring a random part of each picture to a size while training, else the whole picture.

    The part covers 8 to 100 % of the picture, its width is 3/4 to 4/3 of its height (Szegedy et
    al., CVPR 2015); a part that would be longer than a side of the picture is cut to it.

    Args:
        height, width: Of the result, at most those of the pictures.
        seed: Of the draws. Defaults to `None`: Keras's own.
        **kwargs: See `keras.Layer`.

    Example:
    >>> import numpy as np
    >>> tuple(RandomResizedCrop(24, 24)(np.ones((2, 32, 32, 3), "float32")).shape)
    (2, 24, 24, 3)
    """

    def __init__(self, height: int, width: int, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.height, self.width, self.seed = height, width, seed
        self.draws = keras.random.SeedGenerator(seed)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if input_shape[1] < self.height or input_shape[2] < self.width:
            raise ValueError(
                "Pictures must be at least as large as what is made of them. Received: "
                f"{input_shape}, height={self.height}, width={self.width}."
            )

    def call(self, inputs: Any, training: bool = False) -> Any:
        pictures = ops.cast(inputs, self.compute_dtype)
        if not training:
            return ops.image.resize(pictures, (self.height, self.width), antialias=True)
        count, (height, width) = ops.shape(pictures)[0], pictures.shape[1:3]

        def drawn(low: float, high: float) -> Any:
            return keras.random.uniform((count,), low, high, seed=self.draws)

        # Even in the logarithm, so that tall and wide parts are equally likely.
        area, ratio = drawn(*AREA), ops.exp(drawn(*map(math.log, RATIO)))
        tall = ops.minimum(ops.sqrt(height * width * area / ratio), height)
        wide = ops.minimum(ops.sqrt(height * width * area * ratio), width)
        top, left = drawn(0.0, 1.0) * (height - tall), drawn(0.0, 1.0) * (width - wide)
        zeros = ops.zeros_like(top)
        # Where each pixel of the result is read: its row and column, scaled and moved.
        transforms = ops.stack(
            [wide / self.width, zeros, left, zeros, tall / self.height, top, zeros, zeros], axis=1
        )
        moved = ops.image.affine_transform(
            pictures, transforms, interpolation="bilinear", fill_mode="nearest"
        )
        # The transform gives pictures of the size it takes, hence the check in `build`.
        return moved[:, : self.height, : self.width]

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (input_shape[0], self.height, self.width, input_shape[3])

    def get_config(self) -> dict[str, Any]:
        own = {"height": self.height, "width": self.width, "seed": self.seed}
        return {**super().get_config(), **own}
