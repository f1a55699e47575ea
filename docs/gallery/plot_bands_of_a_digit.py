"""
Bands of a digit's spectrum
===========================

A two-dimensional Fourier transform splits a picture into a low band, its coarse shape, and a high
band, its edges. The low band is the circle of radius ``cutoff`` around the middle of the spectrum.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from keras_fdkd.layers import FrequencySplit

picture = load_digits().images[:1, :, :, None].astype("float32")
picture -= picture.mean()  # neither band keeps the mean

low, high = (np.asarray(band) for band in FrequencySplit(cutoff=0.4, axis=(1, 2))(picture))
print("largest error of low + high:", np.abs(low + high - picture).max())

# %%
# Above the pictures, below the amplitudes of their frequencies, the lowest in the middle.

figure, axes = plt.subplots(2, 3, figsize=(7, 5), layout="constrained")
bands = {"picture": picture, "low band": low, "high band": high}
largest = np.abs(np.fft.fft2(picture[0, :, :, 0])).max()
for column, (name, values) in zip(axes.T, bands.items(), strict=True):
    spectrum = np.fft.fftshift(np.abs(np.fft.fft2(values[0, :, :, 0])))
    column[0].imshow(values[0, :, :, 0], cmap="gray", vmin=-12, vmax=12)
    column[1].imshow(spectrum, cmap="viridis", vmin=0, vmax=largest)
    column[0].set_title(name)
for axis in axes.flat:
    axis.set_axis_off()
plt.show()
