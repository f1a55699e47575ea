"""Sound from files, and the spectrograms of the paper's code."""

from pathlib import Path

import numpy as np
import soundfile
from scipy import signal

RATE = 16_000  # Hz
_LEAST = 1e-7  # so that silence has a logarithm


def read_sound(path: Path, rate: int = RATE) -> np.ndarray:
    """Return the mean of a file's channels at a sample rate, float32, shape `(samples,)`.

    Raises:
        ValueError: If the file cannot be read, or holds nothing.
    """
    if not path.is_file():
        raise ValueError(f"{path} is not there.")
    try:
        samples, found = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise ValueError(f"{path} is no sound that can be read: {error}") from error
    return resampled(samples.mean(1), found, rate, path)


def resampled(samples: np.ndarray, found: int, rate: int, path: Path) -> np.ndarray:
    """Return samples of a file at another rate."""
    if not len(samples):
        raise ValueError(f"{path} holds no sound.")
    if found == rate:
        return samples
    common = np.gcd(found, rate)
    return signal.resample_poly(samples, rate // common, found // common).astype("float32")


def fitted(samples: np.ndarray, count: int) -> np.ndarray:
    """Return `count` samples: repeated from the beginning, or cut at the end."""
    return np.resize(samples, count)


def log_power(samples: np.ndarray, rate: int = RATE) -> np.ndarray:
    """Return the logarithm of a spectrogram: windows of 512 samples that overlap by 353.

    It is SciPy's `spectrogram`, as the code of the paper calls it: power densities, Tukey windows,
    each without its mean.

    Args:
        samples: Shape `(n,)`.
        rate: In Hz.

    Returns:
        float32, shape `(257, 1 + (n - 512) // 159)`.
    """
    power = signal.spectrogram(samples, rate, nperseg=512, noverlap=353)[2]
    return np.log(power + _LEAST).astype("float32")


def log_magnitude(samples: np.ndarray) -> np.ndarray:
    """Return the logarithm of a short-time Fourier transform's magnitude.

    Hann windows of 256 samples, 128 apart and centred, zeros around.

    Args:
        samples: Shape `(n,)`.

    Returns:
        float32, shape `(129, 1 + n // 128)`.
    """
    window = signal.windows.hann(256, sym=False)
    # SciPy divides by the window's sum, which a plain transform does not: it is undone.
    bins = signal.stft(samples, window=window, nperseg=256, noverlap=128, padded=False)[2]
    return np.log(np.abs(bins) * window.sum() + _LEAST).astype("float32")
