"""Pictures from files and videos, and sound from videos, by FFmpeg."""

import subprocess  # Of FFmpeg.  # nosec B404
from pathlib import Path

import numpy as np
from imageio_ffmpeg import get_ffmpeg_exe
from PIL import Image

from recipes.published.sound import RATE


def read_picture(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Return a picture file at a size, uint8, shape `(height, width, 3)`.

    Args:
        path: Of the file.
        size: Height and width; proportions are not kept.

    Raises:
        ValueError: If the file cannot be read.
    """
    if not path.is_file():
        raise ValueError(f"{path} is not there.")
    try:
        with Image.open(path) as picture:
            resized = picture.convert("RGB").resize(size[::-1], Image.Resampling.BILINEAR)
    except (OSError, SyntaxError) as error:  # Pillow raises the latter for some broken files.
        raise ValueError(f"{path} is no picture that can be read: {error}") from error
    return np.asarray(resized)


def read_frames(path: Path, size: tuple[int, int], per_second: float = 1.0) -> np.ndarray:
    """Return frames of a video, uint8, shape `(frames, height, width, 3)`.

    Args:
        path: Of the file.
        size: Height and width; proportions are not kept.
        per_second: Frames for each second.

    Raises:
        ValueError: If the file cannot be read, or holds no frame.
    """
    height, width = size
    # Bilinear as in `read_picture`: FFmpeg's default is bicubic.
    scaled = f"fps={per_second},scale={width}:{height}:flags=bilinear"
    raw = _decoded(path, "-vf", scaled, "-f", "rawvideo", "-pix_fmt", "rgb24")
    frames = np.frombuffer(raw, "uint8")
    if not len(frames):
        raise ValueError(f"{path} holds no picture.")
    return frames.reshape(-1, height, width, 3)


def read_video_sound(path: Path, rate: int = RATE) -> np.ndarray:
    """Return the sound of a video as `recipes.published.sound.read_sound` does of a sound file."""
    raw = _decoded(path, "-vn", "-ac", "1", "-ar", str(rate), "-f", "f32le")
    samples = np.frombuffer(raw, "float32")
    if not len(samples):
        raise ValueError(f"{path} holds no sound.")
    return samples


def picture_files(folder: Path) -> list[Path]:
    """Return the pictures of a folder in the order of their names."""
    kinds = {".jpg", ".jpeg", ".png"}
    return sorted(path for path in folder.glob("*") if path.suffix.lower() in kinds)


def evenly(count: int, wanted: int) -> np.ndarray:
    """Return `wanted` positions of `count`, the middles of equal parts; some twice if too few.

    Example:
    >>> evenly(10, 3).tolist(), evenly(2, 3).tolist()
    ([1, 5, 8], [0, 1, 1])
    """
    return ((np.arange(wanted) + 0.5) * count / wanted).astype(int)


def _decoded(path: Path, *output: str) -> bytes:
    if not path.is_file():
        raise ValueError(f"{path} is not there.")
    # Without `-nostdin` FFmpeg takes what is typed in the terminal as commands.
    command = [get_ffmpeg_exe(), "-v", "error", "-nostdin", "-i", str(path), *output, "-"]
    done = subprocess.run(command, capture_output=True, check=False)  # No shell.  # nosec B603
    # Of a video that breaks off, what came before is used.
    if done.returncode and not done.stdout:
        raise ValueError(f"{path} cannot be decoded: {done.stderr.decode(errors='replace')[-300:]}")
    return done.stdout


def stored_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return the size that pictures are kept at: a little larger, for random parts of them."""
    # 256 pixels for 224, as is usual with ImageNet.
    return size[0] * 8 // 7, size[1] * 8 // 7


def clip_pictures(
    folder: Path,
    video: Path,
    size: tuple[int, int],
    count: int,
    span: tuple[int, int | None] = (0, None),
) -> np.ndarray:
    """Return pictures of a clip, one a second at most, uint8, shape `(count, height, width, 3)`.

    Args:
        folder: Of pictures, one a second, if somebody extracted them.
        video: Read in their place if there are none.
        size: Height and width.
        count: How many, evenly over the clip.
        span: Of the video, first second and the one after the last; `None` for the end.

    Raises:
        ValueError: If there is neither, or it cannot be read.
    """
    files = picture_files(folder)
    if files:
        return np.stack([read_picture(files[n], size) for n in evenly(len(files), count)])
    frames = read_frames(video, size)
    inside = frames[slice(*span)]
    # A video may end before the span begins.
    frames = inside if len(inside) else frames[-1:]
    return frames[evenly(len(frames), count)]


def missing_pictures(folder: Path, video: Path) -> bool:
    """Return whether there are neither pictures nor a video."""
    return not video.exists() and not picture_files(folder)
