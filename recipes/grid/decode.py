"""Pictures and sound of a clip, by the ffmpeg that comes inside the package `imageio-ffmpeg`."""

import subprocess  # nosec B404
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg
import keras
import numpy as np

FRAMES_PER_SECOND, HEIGHT, WIDTH = 25, 28, 40
STEPS_PER_SECOND, BANDS = 100, 40
_PICTURE = 288, 360  # Height and width of the published clips.
_RATE = 16_000  # Samples of sound a second: bands up to 8 kHz.
_SECONDS = 120  # After which a clip counts as broken.


@dataclass(frozen=True)
class Box:
    """Where the mouth is in a picture, in pixels.

    Raises:
        ValueError: If that is not inside a picture of the corpus.
    """

    top: int
    left: int
    height: int
    width: int

    def __post_init__(self) -> None:
        below, right = _PICTURE[0] - self.top, _PICTURE[1] - self.left
        if min(self.top, self.left) < 0 or not (
            0 < self.height <= below and 0 < self.width <= right
        ):
            raise ValueError(
                f"The box must be inside a picture of {_PICTURE[0]} x {_PICTURE[1]} pixels. "
                f"Received: {self}."
            )


def read_mouth(path: Path, box: Box) -> np.ndarray:
    """Return the gray pictures of the mouth, uint8, shape `(frames, 28, 40)`, 25 a second.

    Args:
        path: Of a clip.
        box: Part of the picture that is scaled to 28 x 40 pixels.

    Raises:
        ValueError: If ffmpeg cannot read them.
    """
    # `exact`: FFmpeg rounds a box to the pixels of colour, which are twice as large.
    crop = f"crop={box.width}:{box.height}:{box.left}:{box.top}:exact=1"
    filters = f"fps={FRAMES_PER_SECOND},{crop},scale={WIDTH}:{HEIGHT}:flags=area,format=gray"
    raw = _decode(path, "-an", "-vf", filters, "-f", "rawvideo")
    return np.frombuffer(raw, "uint8").reshape(-1, HEIGHT, WIDTH)


def read_sound(path: Path) -> np.ndarray:
    """Return the mel spectrogram in decibels, float32, shape `(steps, 40)`, 100 steps a second.

    `keras.layers.MelSpectrogram` computes it, with windows of 25 ms; what is 80 dB below the
    loudest band of the clip counts as that.

    Raises:
        ValueError: If ffmpeg cannot read the sound.
    """
    raw = _decode(path, "-vn", "-ac", "1", "-ar", str(_RATE), "-f", "s16le")
    signal = np.frombuffer(raw, "<i2").astype("float32") / 2**15
    mel = keras.layers.MelSpectrogram(
        fft_length=512,
        sequence_length=_RATE // 40,
        sequence_stride=_RATE // STEPS_PER_SECOND,
        sampling_rate=_RATE,
        num_mel_bins=BANDS,
    )
    return keras.ops.convert_to_numpy(mel(signal)).T


def _decode(path: Path, *options: str) -> bytes:
    """Return what ffmpeg writes to its standard output."""
    # `-xerror`: a damaged clip ends with an error, instead of being read in part.
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", "-xerror"]
    # Absolute, since a name with a dash in front would be an option.
    command += ["-i", str(path.absolute()), *options, "-"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_SECONDS)  # nosec B603
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"ffmpeg took over {_SECONDS} s to read {path}.") from error
    if done.returncode or not done.stdout:
        message = done.stderr.decode(errors="replace").strip().splitlines()
        raise ValueError(f"ffmpeg cannot read {path}: {message[-1] if message else 'no data'}.")
    return done.stdout
