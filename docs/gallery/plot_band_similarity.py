"""
Similarity of bands, with its controls
======================================

Is the low band of two models' features more similar than the high one? Two networks are trained
apart, one on sharp digits, one on coarse ones. The low band with its mean (DC) looks shared.
Without the mean nothing is left, and shuffled channels (hatched) give the same figures: it is not
frequency that the features share, but a positive mean, as features after a ReLU have one.
"""

import keras
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from keras_fdkd.analysis import band_similarity, plot_similarity

digits = load_digits()
sharp = (digits.images / 16).astype("float32")  # 8 x 8
coarse = sharp.reshape(-1, 4, 2, 4, 2).mean((2, 4))  # 4 x 4
train, test = np.split(np.random.default_rng(0).permutation(len(sharp)), [1300])


def features(inputs):
    """Train a network on pictures and return the features of those it did not see."""
    x = keras.Input(inputs.shape[1:])
    hidden = keras.layers.Dense(64, "relu")(keras.layers.Flatten()(x))
    network = keras.Model(x, keras.layers.Dense(10)(hidden))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(keras.optimizers.Adam(0.003), loss=loss)
    network.fit(inputs[train], digits.target[train], epochs=20, verbose=0)
    return keras.Model(x, hidden).predict(inputs[test], verbose=0)


keras.utils.set_random_seed(0)
report = band_similarity({"teacher": features(sharp), "student": features(coarse)})
print({kind: round(value, 2) for kind, value in report.mean.items()})

# %%
# One seed; bars are means over the samples that neither network saw.

plt.figure(plot_similarity({"trained apart": report}))
plt.show()
