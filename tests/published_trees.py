"""Small trees of real files in the layouts of the paper's five data sets."""

import subprocess
from pathlib import Path

import h5py
import numpy as np
import soundfile
from imageio_ffmpeg import get_ffmpeg_exe
from PIL import Image
from scipy.io import savemat

from recipes.ave.data import CLASSES as AVE_CLASSES
from recipes.vggsound.data import CLASSES as VGG_CLASSES


def write_sound(path, seconds=1.0, rate=16000, pitch=440.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(int(seconds * rate)) / rate
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * pitch * time), rate)


def write_picture(path, size=(20, 30), shade=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(shade).integers(256, size=(*size, 3), dtype="uint8")
    Image.fromarray(values).save(path)


def write_video(path, seconds=2, sound=True):
    """A test picture that moves, with a tone, as FFmpeg makes them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    source = ["-f", "lavfi", "-i", f"testsrc=size=64x48:rate=10:duration={seconds}"]
    if sound:
        source += ["-f", "lavfi", "-i", f"sine=frequency=440:sample_rate=22050:duration={seconds}"]
    command = [get_ffmpeg_exe(), "-v", "error", "-y", *source, str(path)]
    subprocess.run(command, check=True)


def crema_d(folder):
    """Nine clips of four actors to train on and three to test; one of them a video."""
    root = folder / "CREMA-D"
    lines = {"train": [], "test": []}
    emotions = ("NEU", "HAP", "SAD", "FEA", "DIS", "ANG", "NEU", "HAP", "SAD", "FEA", "DIS", "ANG")
    for number, emotion in enumerate(emotions):
        clip = f"{1001 + number % 4}_DFA_{emotion}_XX"
        if number > 5:
            clip = f"{1001 + number % 4}_IEO_{emotion}_HI"
        write_sound(root / "AudioWAV" / f"{clip}.wav", 1 + number / 4, pitch=200 + 50 * number)
        if number == 0:
            write_video(root / "VideoFlash" / f"{clip}.flv")
        else:
            write_picture(root / "Image-01-FPS" / clip / "00000.jpg", shade=number)
            write_picture(root / "Image-01-FPS" / clip / "00001.jpg", shade=number + 50)
        lines["test" if number > 8 else "train"].append(f"{clip},{emotion}")
    for split, rows in lines.items():
        mark = "\ufeff" if split == "train" else ""  # Some copies begin with a byte order mark.
        (root / f"{split}.csv").write_text(mark + "\r\n".join(rows) + "\r\n", encoding="utf-8")
    return root


def ave(folder):
    """Clips of two events, one from a video alone, and a training list with two clips too many."""
    root = folder / "AVE_Dataset"
    lists = {"trainSet": range(8), "valSet": range(8, 10), "testSet": range(10, 12)}
    for name, numbers in lists.items():
        lines = []
        for number in numbers:
            clip = f"-clip_{number:02d}"
            if number == 0:
                write_video(root / "AVE" / f"{clip}.mp4", seconds=10)
            else:
                write_sound(root / "Audios" / f"{clip}.wav", 10, pitch=200 + 90 * number)
                for second in range(3):
                    file = root / "Image-01-FPS-SE" / clip / f"{second:05d}.jpg"
                    write_picture(file, shade=10 * number + second)
            lines.append(f"{AVE_CLASSES[number % 2]}&{clip}&good&2&7")
        if name == "trainSet":
            lines += [
                f"{AVE_CLASSES[0]}&-clip_10&good&0&10",
                lines[3],
                "Nothing&-clip_99&good&0&10",
            ]
        (root / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def vggsound(folder):
    """Ten clips, one of which has vanished; a label with a comma in quotes."""
    root = folder / "VGGSound"
    for split, numbers in (("train", range(8)), ("test", range(8, 10))):
        lines = []
        for number in numbers:
            label = VGG_CLASSES[27 + number % 2]
            clip = f"id_{number}_{10 * number:06d}"
            if number != 3:
                sound = root / f"{split}-audios" / f"{split}-set" / f"{clip}.wav"
                write_sound(sound, 4, rate=22050, pitch=200 + 90 * number)
            pictures = (
                root / f"{split}-videos" / f"{split}-set-img" / "Image-01-FPS" / f"{clip}.mp4"
            )
            write_picture(pictures / "00001.jpg", shade=number)
            quoted = f'"{label}"' if "," in label else label
            lines.append(f"id_{number},{10 * number},{quoted},{split}")
        (root / f"{split}_tiny.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def crisis_mmd(folder, task="humanitarian"):
    """Ten tweets to train on, two to choose and two to test; texts with quotes and wrong bytes."""
    root = folder / "CrisisMMD_v2.0"
    head = (
        "event_name\ttweet_id\timage_id\ttweet_text\timage\tlabel\tlabel_text\tlabel_image\t"
        "label_text_image"
    )
    labels = {
        "humanitarian": ("not_humanitarian", "affected_individuals"),
        "informative": ("not_informative", "informative"),
    }[task]
    for split, numbers in (("train", range(10)), ("dev", (10, 11)), ("test", (12, 13))):
        lines = [head]
        for number in numbers:
            picture = f"data_image/flood/1_9_2017/90{number}_0.jpg"
            write_picture(root / picture, shade=number)
            text = '"Help, he said' if number == 2 else f"water in the cafÃ© {number}"
            label = labels[number % 2]
            lines.append(
                f"flood\t90{number}\t90{number}_0\t{text}\t{picture}\t{label}\t{label}\t{label}\tPos"
            )
        file = root / "crisismmd_datasplit_agreed_label"
        file.mkdir(parents=True, exist_ok=True)
        file = file / f"task_{task}_text_img_agreed_lab_{split}.tsv"
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def _scenes(count, size):
    rng = np.random.default_rng(0)
    patches = rng.integers(256, size=(count, size[0] // 16, size[1] // 16, 3), dtype="uint8")
    rgb = patches.repeat(16, 1).repeat(16, 2)  # JPEG keeps them nearly as they are.
    depth = rng.uniform(0.7, 9.9, size=(count, *size)).astype("float32")
    raw = rng.integers(895, size=(count, *size)).astype("uint16")  # 0 has no label
    mapping = rng.integers(1, 41, size=894).astype("uint8")
    return rgb, depth, raw, mapping


def nyu_depth_file(folder, count=10, size=(64, 96)):
    """The file that NYU publishes, with MATLAB's order of axes, and its two lists."""
    root = folder / "nyu"
    root.mkdir(parents=True)
    rgb, depth, raw, mapping = _scenes(count, size)
    with h5py.File(root / "nyu_depth_v2_labeled.mat", "w") as file:
        file["images"] = rgb.transpose(0, 3, 2, 1)
        file["depths"], file["labels"] = depth.transpose(0, 2, 1), raw.transpose(0, 2, 1)
    numbers = np.arange(1, count + 1).reshape(-1, 1)
    savemat(root / "splits.mat", {"trainNdxs": numbers[:-2], "testNdxs": numbers[-2:]})
    savemat(root / "classMapping40.mat", {"mapClass": mapping[np.newaxis]})
    return root


def nyu_depth_folders(folder, count=10, size=(64, 96)):
    """The same scenes as files of their own."""
    root = folder / "NYUDepthv2"
    for name in ("RGB", "Depth", "Label"):
        (root / name).mkdir(parents=True)
    rgb, depth, raw, mapping = _scenes(count, size)
    classes = np.concatenate([[0], mapping]).astype("uint8")[raw]
    lines = []
    for number in range(count):
        Image.fromarray(rgb[number]).save(root / "RGB" / f"{number}.jpg", quality=95)
        Image.fromarray(classes[number]).save(root / "Label" / f"{number}.png")
        np.save(root / "Depth" / f"{number}.npy", depth[number])
        lines.append(f"RGB/{number}.jpg\tLabel/{number}.png")
    for name, part in (("train", lines[:-2]), ("test", lines[-2:])):
        (root / f"{name}.txt").write_text("\n".join(part) + "\n")
    return root


TREES = {
    "crema_d": crema_d,
    "ave": ave,
    "vggsound": vggsound,
    "crisis_mmd": crisis_mmd,
    "nyu_depth": nyu_depth_file,
}


def make_tree(name: str, folder: Path) -> Path:
    """Return the root of a new tree."""
    return TREES[name](folder)
