"""The recipe of mouths and sounds: the published folders, the prepared file, models, metric."""

import dataclasses
import os
import subprocess
from pathlib import Path

import imageio_ffmpeg
import keras
import numpy as np
import pytest
from conftest import whole_recipe
from keras import ops
from PIL import Image
from scipy.io import wavfile

from keras_fdkd.masks import MaskReader
from recipes.grid.__main__ import main
from recipes.grid.corpus import GRAMMAR, LETTERS, VOCABULARY, find_clips, read_align
from recipes.grid.data import FILE, load_grid
from recipes.grid.decode import Box, read_mouth, read_sound
from recipes.grid.layers import BlankPadding
from recipes.grid.methods import methods_of
from recipes.grid.metrics import word_error_rate
from recipes.grid.models import build_model

REAL = Path(os.environ.get("RECIPES_DATA", "data")) / FILE.format("s1")
BOX = Box(top=160, left=120, height=84, width=120)
SENTENCE = ["bin", "blue", "at", "f", "two", "now"]
OTHER = ["bin", "blue", "at", "f", "three", "soon"]
SECONDS, START, STEP = 3, 0.8, 0.2  # Of a clip, of its first word, of each word.


def write_align(path, words, start=START):
    ends = start + STEP * np.arange(7)
    times = [(0, start, "sil"), *zip(ends[:-1], ends[1:], words, strict=True), (ends[-1], 3, "sil")]
    lines = [f"{round(25_000 * a)} {round(25_000 * b)} {word}" for a, b, word in times]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def write_clip(path):
    """MPEG-1 with mp2 sound: a box that grows brighter, and a tone of 1 kHz in the speech."""
    path.parent.mkdir(parents=True, exist_ok=True)
    moments = np.arange(SECONDS * 44_100) / 44_100
    loud = 0.5 * (moments > START) * (moments < START + 6 * STEP)
    sound = path.with_suffix(".wav")
    wavfile.write(sound, 44_100, (2**15 * loud * np.sin(2000 * np.pi * moments)).astype("int16"))
    frames = np.zeros((SECONDS * 25, 288, 360), "uint8")
    inside = np.s_[:, BOX.top : BOX.top + BOX.height, BOX.left : BOX.left + BOX.width]
    frames[inside] = 50 + 2 * np.arange(len(frames))[:, None, None]
    pictures = ["-f", "rawvideo", "-pix_fmt", "gray", "-s", "360x288", "-r", "25", "-i", "-"]
    coded = ["-c:v", "mpeg1video", "-b:v", "2M", "-c:a", "mp2", str(path)]
    # No fork, as `imageio_ffmpeg.write_frames` has it: JAX warns of forks.
    subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *pictures, "-i", str(sound), *coded],
        input=frames.tobytes(), check=True,
    )  # fmt: skip
    sound.unlink()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Two whole clips, one that is no video, one without words, one that ends too early."""
    folder = tmp_path_factory.mktemp("grid")
    whole = folder / "s1" / "bbaf2n.mpg"
    write_clip(whole)
    for name in ("bbaf3s", "bbaf4p", "bbaf5a"):
        whole.with_stem(name).write_bytes(whole.read_bytes())
    whole.with_stem("bbaf4p").write_bytes(b"no video")
    write_align(whole.with_suffix(".align"), SENTENCE)
    write_align(folder / "s1" / "align" / "bbaf3s.align", OTHER)
    write_align(whole.with_name("bbaf4p.align"), SENTENCE)
    write_align(folder / "align" / "s1" / "bbaf6n.align", SENTENCE, start=2.5)
    whole.with_stem("bbaf6n").write_bytes(whole.read_bytes())
    return folder


def prepared(folder, count, seed=0):
    """Random sentences in the layout of the prepared file."""
    rng = np.random.default_rng(seed)
    frames = rng.integers(40, 50, count)
    words = [[rng.choice(place) for place in GRAMMAR] for _ in range(count)]
    for n, sentence in enumerate(words):
        sentence[3] = LETTERS[n % len(LETTERS)]
    arrays = {
        "video": rng.integers(256, size=(frames.sum(), 28, 40), dtype="uint8"),
        "video_length": frames.astype("int16"),
        "audio": rng.integers(256, size=(4 * frames.sum(), 40), dtype="uint8"),
        "audio_length": (4 * frames).astype("int16"),
        "words": np.array([[VOCABULARY.index(w) for w in s] for s in words], "uint8"),
        "vocab": np.array(VOCABULARY),
    }
    np.savez(folder / FILE.format("s1"), **arrays)
    return arrays


# The published folders.


def test_words_and_times(corpus):
    words, times = read_align(corpus / "s1" / "bbaf2n.align")
    assert words == SENTENCE
    np.testing.assert_allclose(times[:, 0], START + STEP * np.arange(6))
    np.testing.assert_allclose(times[:, 1] - times[:, 0], STEP)


@pytest.mark.parametrize(
    ("words", "start", "message"),
    [
        (SENTENCE[:5], 0.8, "command, colour.*Received: .*'two'"),
        ([*SENTENCE[:3], "w", *SENTENCE[4:]], 0.8, "command, colour.*Received: .*'w'"),
    ],
)
def test_words_that_are_no_sentence(tmp_path, words, start, message):
    file = tmp_path / "a.align"
    file.write_text("\n".join(f"{n * 1000} {n * 1000 + 1000} {w}" for n, w in enumerate(words)))
    with pytest.raises(ValueError, match=message):
        read_align(file)


def test_words_out_of_order(tmp_path):
    file = tmp_path / "a.align"
    file.write_text("\n".join(f"{9000 - n} {9000} {w}" for n, w in enumerate(SENTENCE)))
    with pytest.raises(ValueError, match="one word after another"):
        read_align(file)


def test_clips_and_where_words_lie(corpus):
    found = {clip.name: clip.align for clip in find_clips(corpus, "s1")}
    assert list(found) == ["bbaf2n", "bbaf3s", "bbaf4p", "bbaf5a", "bbaf6n"]
    assert found["bbaf3s"] == corpus / "s1" / "align" / "bbaf3s.align"
    assert found["bbaf6n"] == corpus / "align" / "s1" / "bbaf6n.align"
    assert not found["bbaf5a"].exists()


def test_mouth_and_sound_of_a_clip(corpus):
    path = corpus / "s1" / "bbaf2n.mpg"
    video = read_mouth(path, BOX)
    assert video.dtype == np.uint8
    assert video.shape == (75, 28, 40)
    # A compressed picture, and another range of brightness.
    inside = video[:, 4:-4, 4:-4].mean((1, 2))
    assert np.corrcoef(inside, np.arange(75))[0, 1] > 0.99
    assert video[:, 4:-4, 4:-4].std((1, 2)).max() < 10
    outside = read_mouth(path, Box(0, 0, 84, 100))
    assert outside.max() < 40 < inside.min()
    sound = read_sound(path)
    assert abs(len(sound) - 300) <= 10
    assert sound.shape[1] == 40
    speech = sound[100:180]
    # Mel bands between 20 Hz and 8 kHz, whose centres are equally far apart in mel.
    edges = 1127 * np.log(1 + np.array([20, 8000, 1000]) / 700)
    expected = (edges[2] - edges[0]) / (edges[1] - edges[0]) * 41 - 1
    assert abs(speech.mean(0).argmax() - expected) <= 1
    assert speech.mean(0).max() > sound[:60].mean(0).max() + 40


def test_prepared_clips(corpus, tmp_path, capsys):
    box = map(str, dataclasses.astuple(BOX))
    path = main(["prepare", "--data", str(corpus), "--output", str(tmp_path), "--box", *box])
    said = " ".join(capsys.readouterr().out.split())
    assert "Left out 3 broken clips" in said
    assert "bbaf4p: ffmpeg cannot read" in said
    assert "bbaf5a: " in said
    assert "bbaf6n: " in said
    assert "must last until the last word has ended" in said
    assert (
        sorted(file.name for file in tmp_path.iterdir())
        == ["grid_s1_lips.npz", "grid_s1_lips.png"][::1]
    )
    with np.load(path) as file:
        arrays = dict(file)
    assert arrays["name"].tolist() == ["bbaf2n", "bbaf3s"]
    # From 0.65 s to 2.15 s, at whole pictures.
    assert arrays["video_length"].tolist() == [38, 38]
    assert arrays["audio_length"].tolist() == [152, 152]
    np.testing.assert_allclose(arrays["word_times"][0, 0], [0.16, 0.36], atol=1e-6)
    assert arrays["vocab"][arrays["words"][1]].tolist() == OTHER
    assert (arrays["audio"].min(), arrays["audio"].max()) == (0, 255)
    # Sound and pictures tell of the same moments: the tone begins with the first word.
    loud = arrays["audio"][:152].max(1) > 128
    assert abs(loud.argmax() - 16) <= 4
    with Image.open(path.with_suffix(".png")) as picture:
        assert picture.size == (320, 224)
    data = load_grid(tmp_path)
    assert data.letters.tolist() == [LETTERS.index("f")] * 2


def test_speakers_that_cannot_be_prepared(corpus, tmp_path):
    for name in ("s1", "s2"):
        (tmp_path / name).mkdir()
    with pytest.raises(SystemExit, match=r"`--speaker` must say which. Received: \[\]"):
        main(["prepare", "--data", str(tmp_path)])
    for name in ("s1", "s2"):
        (tmp_path / name / "bbaf2n.mpg").touch()
    with pytest.raises(SystemExit, match="must say which. Received: .*'s1', 's2'"):
        main(["prepare", "--data", str(tmp_path)])
    with pytest.raises(FileNotFoundError, match="Received: 1 clips, all broken"):
        main(["prepare", "--data", str(tmp_path), "--speaker", "s2"])
    assert not list(tmp_path.glob("*.npz"))


@pytest.mark.parametrize(
    "box", [(205, 0, 84, 120), (0, 241, 84, 120), (-1, 0, 84, 120), (0, -1, 84, 120), (0, 0, 0, 9)]
)
def test_boxes_beyond_the_picture(box):
    command = ["prepare", "--data", ".", "--box", *map(str, box)]
    with pytest.raises(ValueError, match=f"inside a picture.*Received: .*top={box[0]}"):
        main(command)


# The prepared file.


def test_padded_sentences(tmp_path):
    arrays = prepared(tmp_path, 30)
    data = load_grid(tmp_path)
    for modality, name in (("mouth", "video"), ("sound", "audio")):
        frames, lengths = data.inputs[modality].values()
        valid = np.arange(frames.shape[1]) < lengths[:, None]
        np.testing.assert_array_equal(lengths, arrays[f"{name}_length"])
        np.testing.assert_array_equal(frames[valid], arrays[name])
        assert not frames[~valid].any()
    assert [LETTERS[n] for n in data.letters] == [LETTERS[n % 25] for n in range(30)]
    np.testing.assert_array_equal(data.words, arrays["words"].astype(int) + 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"words": None}, r"without \['words'\]"),
        ({"vocab": np.array(["a", "b"])}, "`vocab` must hold the 51 words"),
        ({"video_length": np.full(4, 3)}, "`video_length` must be the lengths"),
    ],
)
def test_files_of_another_layout(tmp_path, change, message):
    arrays = {**prepared(tmp_path, 4), **change}
    path = tmp_path / "other.npz"
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})
    with pytest.raises(ValueError, match=f"{message}.*Received|Received.*{message}"):
        load_grid(path)


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="python -m recipes.grid prepare"):
        load_grid(tmp_path)
    for name in ("s1", "s2"):
        (tmp_path / FILE.format(name)).touch()
    with pytest.raises(ValueError, match="must name one prepared file"):
        load_grid(tmp_path)


@pytest.mark.skipif(not REAL.is_file(), reason="the corpus is not there")
def test_the_corpus():
    data = load_grid(REAL)
    assert data.inputs["mouth"]["frames"].shape == (1000, 61, 28, 40)
    assert data.inputs["sound"]["frames"].shape == (1000, 244, 40)
    assert np.bincount(data.letters).tolist() == [40] * 25
    assert len(np.unique(data.words, axis=0)) == 1000


# Models.

SHAPES = {"mouth": (12, 28, 40), "sound": (48, 40)}
LENGTHS = {"mouth": np.array([12, 7, 9]), "sound": np.array([48, 27, 36])}


def sequences(modality, fill, extra=0):
    shape = SHAPES[modality]
    frames = np.random.default_rng(0).integers(256, size=(3, *shape)).astype("uint8")
    frames = np.pad(frames, [(0, 0), (0, extra), *[(0, 0)] * (len(shape) - 1)])
    lengths = LENGTHS[modality].astype("int32")
    frames[np.arange(frames.shape[1]) >= lengths[:, None]] = fill
    return {"frames": frames, "length": lengths}


def trained(modality, words=None):
    """A model whose statistics are no longer those of the start."""
    model = build_model(modality, SHAPES[modality], 25, words)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.beta.assign(np.linspace(-1, 1, layer.beta.shape[0]))
    return model


@pytest.mark.parametrize("words", [None, 51])
@pytest.mark.parametrize("modality", SHAPES)
def test_padding_has_no_effect(modality, words):
    model = trained(modality, words)
    expected = model.predict(sequences(modality, 0), verbose=0)
    assert np.abs(expected - expected[:1]).max() > 0.01
    found = model.predict(sequences(modality, 255), verbose=0)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    shape = SHAPES[modality]
    longer = build_model(modality, (shape[0] + 8, *shape[1:]), 25, words)
    longer.set_weights(model.get_weights())
    found = longer.predict(sequences(modality, 9, extra=8), verbose=0)
    np.testing.assert_allclose(found[:, : expected.shape[1]], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("modality", SHAPES)
def test_mask_of_features(modality):
    model = build_model(modality, SHAPES[modality], 25)
    tap = keras.Model(model.input, model.get_layer("feature").output)
    feature = tap(sequences(modality, 0))
    mask = ops.convert_to_numpy(MaskReader()(feature))[..., 0]
    assert mask.shape == tuple(feature.shape[:2])
    strides = SHAPES[modality][0] // feature.shape[1]
    np.testing.assert_array_equal(mask.sum(1), -(-LENGTHS[modality] // strides))


def test_models_from_a_file(tmp_path):
    model = trained("sound", 51)
    model.save(tmp_path / "sound.keras")
    loaded = keras.saving.load_model(tmp_path / "sound.keras")
    x = sequences("sound", 0)
    np.testing.assert_allclose(
        loaded.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-6, atol=1e-6
    )


def test_blank_padding_leaves_the_loss_as_it_is():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(1, 20, 8)).astype("float32")
    words = np.array([[3, 3, 5, 1, 2, 7]])
    loss = keras.losses.CTC()
    expected = float(loss(words, logits[:, :15]))
    padded = BlankPadding()(logits, mask=np.arange(20)[None] < 15)
    assert float(loss(words, padded)) == pytest.approx(expected, rel=1e-5)
    assert float(loss(words, logits)) != pytest.approx(expected, rel=1e-2)
    rates = [ops.convert_to_numpy(word_error_rate(words, x)) for x in (logits[:, :15], padded)]
    np.testing.assert_array_equal(*rates)


def distance(said, heard):
    """Levenshtein's, from its definition."""
    if not said or not heard:
        return len(said) + len(heard)
    return min(
        distance(said[1:], heard) + 1,
        distance(said, heard[1:]) + 1,
        distance(said[1:], heard[1:]) + (said[0] != heard[0]),
    )


def test_word_error_rate():
    rng = np.random.default_rng(0)
    said = rng.integers(1, 5, size=(40, 4))
    best = rng.integers(0, 5, size=(40, 9))
    best[0], best[1] = 0, [0, *said[1, :1], *said[1, :1], 0, *said[1, 1:], 0, 0]
    logits = np.eye(5, dtype="float32")[best]
    expected = []
    for words, steps in zip(said.tolist(), best.tolist(), strict=True):
        heard = [b for a, b in zip([-1, *steps], steps, strict=False) if b not in (0, a)]
        expected.append(distance(words, heard) / 4)
    found = ops.convert_to_numpy(word_error_rate(said, logits))
    np.testing.assert_allclose(found, expected)
    assert found[0] == 1.0
    assert len(set(found.tolist())) > 4


# Methods and the recipe.


@pytest.mark.parametrize("name", methods_of("letters"))
def test_methods_train(name):
    """On either task, with a teacher of another rate."""
    x = {"teacher": sequences("sound", 0), "student": sequences("mouth", 0)}
    tasks = {
        "letters": (None, np.array([0, -1, 2]),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)),
        "words": (51, np.array([[1, 2, 3]] * 3), keras.losses.CTC()),
    }  # fmt: skip
    for task, (words, labels, loss) in tasks.items():
        teacher, student = (build_model(m, SHAPES[m], 25, words) for m in ("sound", "mouth"))
        method = methods_of(task)[name]
        distiller = method.make(teacher, student, **method.default)
        distiller.compile("sgd", loss)
        logs = distiller.fit(x, labels, verbose=0).history
        assert np.isfinite(logs["loss"]).all()
        assert logs["loss"][0] > logs["task_loss"][0]


def test_bands_see_no_padding():
    teacher, student = trained("sound"), trained("mouth")
    method = methods_of("letters")["both"]
    distiller = method.make(teacher, student, **method.default)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile(keras.optimizers.SGD(0.0), loss)
    terms = []
    for fill in (0, 255):
        x = {"teacher": sequences("sound", fill), "student": sequences("mouth", fill)}
        terms.append(distiller.fit(x, np.arange(3), verbose=0).history)
    for name in ("low_loss", "high_loss", "frequency_loss"):
        assert terms[0][name] == pytest.approx(terms[1][name], rel=1e-4)
        assert terms[0][name][0] > 0


@whole_recipe
@pytest.mark.parametrize("task", ["letters", "words"])
def test_recipe(tmp_path, task, capsys):
    prepared(tmp_path, 175)  # Seven of each letter.
    command = ["--data", str(tmp_path), "--output", str(tmp_path / "out"), "--task", task]
    command += ["--splits", "2", "--epochs", "1", "--few-labels", "25", "--processes", "1"]
    command += ["--methods", "time", "--directions", "sound-mouth"]
    path = main(command)
    assert f"The report is {path}" in " ".join(capsys.readouterr().out.split())
    text = path.read_text(encoding="utf-8")
    assert "bands along time" in text
    assert "CC BY 4.0" in text
    assert (path.parent / "sound-mouth_gains.png").is_file()
    assert (path.parent / "studies" / "sound-mouth" / "rows.jsonl").is_file()
    assert ("25 labels" in text) == (task == "letters")


def test_a_recipe_needs_data(tmp_path):
    with pytest.raises(FileNotFoundError, match="recipes.grid prepare"):
        main(["--data", str(tmp_path), "--output", str(tmp_path / "out")])
