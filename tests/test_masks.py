"""Keras masks of what a tap reads: which positions count."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_fdkd.features import FeatureTap

TOKENS = np.array([[1, 2, 3, 0, 0], [4, 0, 0, 0, 0], [1, 2, 3, 4, 5]], "int32")
FRAMES = np.where(TOKENS[..., None] > 0, 1.5, 0.0) * np.ones(4)
EXPECTED = (TOKENS > 0)[..., None]


def embedded():
    """Embedding, GRU, a class for each token."""
    x = keras.Input((5,), dtype="int32")
    h = layers.Embedding(9, 4, mask_zero=True)(x)
    h = layers.GRU(6, return_sequences=True, name="gru")(h)
    return keras.Model(x, layers.Dense(3, name="head")(h)), TOKENS


def masking():
    x = keras.Input((5, 4))
    h = layers.GRU(6, return_sequences=True, name="gru")(layers.Masking()(x))
    return keras.Model(x, layers.Activation("softmax")(layers.Dense(3, name="head")(h))), FRAMES


def nested():
    """The mask is made inside of a nested model: Keras's symbols do not show it."""
    inner, tokens = embedded()
    inner = keras.Model(inner.input, inner.output, name="inner")
    x = keras.Input((5,), dtype="int32")
    return keras.Model(x, layers.Identity(name="last")(inner(x))), tokens


class Own(keras.Model):
    def __init__(self):
        super().__init__()
        self.embedding = layers.Embedding(9, 4, mask_zero=True)
        self.gru = layers.GRU(6, return_sequences=True)
        self.head = layers.Dense(3)

    def call(self, inputs):
        hidden = self.gru(self.embedding(inputs))
        return {"features": hidden, "logits": self.head(hidden)}


def own_call():
    model = Own()
    model(TOKENS)
    return model, TOKENS


def wrapped():
    """A layer of one's own makes the mask."""
    x = keras.Input((5,), dtype="int32")

    class Block(layers.Layer):
        def __init__(self):
            super().__init__()
            self.embedding = layers.Embedding(9, 4, mask_zero=True)

        def build(self, shape):
            self.embedding.build(shape)

        def call(self, inputs):
            return self.embedding(inputs)

    h = layers.GRU(6, return_sequences=True, name="gru")(Block()(x))
    return keras.Model(x, layers.Dense(3, name="head")(h)), TOKENS


CASES = {
    "embedded": (embedded, "gru"),
    "masking": (masking, "gru"),
    "nested": (nested, "inner/gru"),
    "own call": (own_call, None),
    "layer of one's own": (wrapped, "gru"),
    "default": (embedded, None),
}


@pytest.mark.parametrize("case", list(CASES))
def test_masks_are_handed_out(case):
    make, path = CASES[case]
    model, inputs = make()
    tap = FeatureTap(model, {"features": path}, "teacher")
    assert tap.masks == {"features", "predictions"}
    for name in tap.masks:
        spec = tap.spec[f"{name}_mask"]
        assert (spec.shape, spec.dtype) == ((None, 5, 1), "bool")
    assert tap.spec["features"].shape == (None, 5, 6)
    for found in (
        tap(inputs),
        tap(inputs, training=True),
        tap.predict(inputs, batch_size=2),
        tap.predict_on_batch(inputs),
    ):
        assert set(found) == {"features", "predictions", "features_mask", "predictions_mask"}
        for name in tap.masks:
            mask = ops.convert_to_numpy(found[f"{name}_mask"])
            assert mask.dtype == bool
            np.testing.assert_array_equal(mask, EXPECTED)
    found = tap.predict(inputs)["predictions"]
    plain = model.predict(inputs, verbose=0)
    plain = plain["logits"] if isinstance(plain, dict) else plain
    np.testing.assert_allclose(found, plain, atol=1e-6)


@pytest.mark.parametrize("case", ["embedded", "nested", "own call"])
@pytest.mark.parametrize("jit", [True, False])
def test_masks_inside_a_training_step(case, jit):
    if jit and keras.config.backend() == "torch":
        pytest.skip("PyTorch runs step by step")
    make, path = CASES[case]
    model, inputs = make()
    tap = FeatureTap(model, {"features": path}, "student")

    class Marked(keras.Model):
        """Predicts the mask."""

        def __init__(self):
            super().__init__()
            self.inner = model

        def call(self, inputs, training=False):
            outputs = tap(inputs, training=training)
            mask = ops.cast(outputs["features_mask"], "float32")
            return mask + 0.0 * ops.mean(outputs["predictions"])

    marked = Marked()
    marked.compile("sgd", "mae", jit_compile=jit)
    # As labels, the mask itself: a step sees the rows in some order.
    logs = marked.fit(inputs, EXPECTED.astype("float32"), batch_size=3, verbose=0).history
    assert logs["loss"] == [0.0]


def test_no_mask_where_none_is_left():
    x = keras.Input((5,), dtype="int32")
    h = layers.GRU(6, return_sequences=True, name="gru")(layers.Embedding(9, 4, mask_zero=True)(x))
    h = layers.GlobalAveragePooling1D(name="pool")(h)
    model = keras.Model(x, layers.Dense(3)(h))
    tap = FeatureTap(model, {"a": "gru", "b": "pool"}, "student")
    assert tap.masks == {"a"}
    assert set(tap(TOKENS)) == set(tap.spec) == {"a", "b", "predictions", "a_mask"}


def test_no_mask_without_one():
    x = keras.Input((5, 4))
    model = keras.Model(x, layers.Dense(3)(layers.GRU(6, return_sequences=True)(x)))
    tap = FeatureTap(model, {"features": None}, "student")
    assert tap.masks == set()
    assert set(tap(FRAMES)) == {"features", "predictions"}


def test_a_mask_of_frames_holds_for_each_place_in_them():
    x = keras.Input((5, 4))
    h = layers.TimeDistributed(layers.Reshape((2, 2)), name="frames")(layers.Masking()(x))
    model = keras.Model(x, layers.Identity()(h))
    tap = FeatureTap(model, {"maps": "frames"}, "student")
    assert tap.spec["maps_mask"].shape == (None, 5, 2, 1)
    found = ops.convert_to_numpy(tap(FRAMES)["maps_mask"])
    np.testing.assert_array_equal(found, np.repeat(EXPECTED[:, :, None], 2, axis=2))


def test_a_mask_of_other_positions_is_refused():
    class Halved(layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.supports_masking = True

        def call(self, inputs):
            return inputs[:, :2]

    x = keras.Input((5, 4))
    model = keras.Model(x, layers.Dense(3)(Halved(name="half")(layers.Masking()(x))))
    with pytest.raises(ValueError, match="must tell of each of its positions"):
        FeatureTap(model, {"features": "half"}, "student")


def test_layers_that_run_on_real_values_alone():
    """Keras cannot trace them; what its symbols tell of masks is left."""

    class Eager(layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.supports_masking = True

        def call(self, inputs):
            raise RuntimeError("real values alone")

        def compute_output_spec(self, inputs):
            return keras.KerasTensor(inputs.shape, inputs.dtype)

    for masked in (True, False):
        x = keras.Input((5, 4))
        h = Eager(name="eager")(layers.Masking()(x) if masked else layers.Identity()(x))
        tap = FeatureTap(keras.Model(x, layers.Dense(3)(h)), {"features": "eager"}, "student")
        assert tap.masks == ({"features", "predictions"} if masked else set())
