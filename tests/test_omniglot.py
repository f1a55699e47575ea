"""Omniglot: its published layouts, pen paths and their masks, folds, and a short whole run."""

import os
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import whole_recipe
from PIL import Image, ImageDraw

from keras_fdkd.study.labels import Labels
from recipes.omniglot import __main__ as recipe
from recipes.omniglot.data import MODALITIES, few_labels, load_omniglot, split_by_drawer
from recipes.omniglot.files import read_drawings
from recipes.omniglot.models import build_model
from recipes.omniglot.paths import CHANNELS, STEPS, path_steps

ALPHABETS = ("Greek", "Latin")
CHARACTERS = [f"{alphabet}/character0{number}" for alphabet in ALPHABETS for number in (1, 2)]
DRAWERS = range(1, 9)
MEASURED = Path(os.environ.get("RECIPES_DATA", "data"))


def drawn(character, drawer):
    """Two strokes of a drawing, each `(x, y, milliseconds)` with y downwards."""
    start = 20.0 + drawer
    corner = [(start, 80.5, 0), (start, 20.25, 400), (start + 10 * character, 20.25, 800)]
    line = [(start, 50.0, 1500), (start + 40, 50.0 + 5 * character, 1900)]
    return [corner, line]


def write(folder, part="background", characters=CHARACTERS, without=()):
    """Pictures and pen paths as they are published."""
    for number, character in enumerate(characters):
        for drawer in DRAWERS:
            strokes = drawn(CHARACTERS.index(character), drawer)
            name = f"{character}/{700 + number:04d}_{drawer:02d}"
            file = folder / f"images_{part}" / f"{name}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            picture(strokes).save(file)
            file = folder / f"strokes_{part}" / f"{name}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            lines = ["START"]
            for stroke in strokes:
                lines += [*(f"{x:.6f},{-y:.6f},{time:.6f}" for x, y, time in stroke), "BREAK"]
            if name not in without:
                file.write_text("\n".join(lines) + "\n")
    return folder


def picture(strokes):
    found = Image.new("1", (105, 105), 1)
    for stroke in strokes:
        ImageDraw.Draw(found).line([point[:2] for point in stroke], fill=0, width=3)
    return found


def write_packed(folder):
    points, lengths, bits = [], [], []
    for character in range(len(CHARACTERS)):
        for drawer in DRAWERS:
            strokes = drawn(character, drawer)
            path = [(*point, float(point is s[-1])) for s in strokes for point in s]
            points += path
            lengths.append(len(path))
            bits.append(np.packbits(~np.asarray(picture(strokes)), axis=-1))
    each = len(DRAWERS)
    np.savez_compressed(
        folder / "omniglot_small.npz",
        image_bits=np.array(bits),
        stroke=np.array(points, "float32"),
        stroke_length=np.array(lengths, "int16"),
        character=np.repeat(np.arange(len(CHARACTERS), dtype="uint8"), each),
        alphabet=np.repeat(np.arange(2, dtype="uint8"), 2 * each),
        drawer=np.tile(np.array(DRAWERS, "uint8"), len(CHARACTERS)),
        characters=np.array(CHARACTERS),
        alphabets=np.array(ALPHABETS),
    )
    return folder


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return write(tmp_path_factory.mktemp("tree"))


def packed(tree, folder):
    return write_packed(folder)


def zipped(tree, folder):
    for top in tree.iterdir():
        # As in the published files, the archive holds the folder itself.
        shutil.make_archive(str(folder / top.name), "zip", tree, top.name)
    return folder


def in_two_parts(tree, folder):
    write(folder, characters=CHARACTERS[:2])
    return write(folder, "evaluation", characters=CHARACTERS[2:])


@pytest.mark.parametrize("layout", [packed, zipped, in_two_parts])
def test_layouts_give_equal_arrays(tree, tmp_path, layout):
    expected = load_omniglot(tree, ALPHABETS)
    found = load_omniglot(layout(tree, tmp_path), ALPHABETS)
    for name, values in expected.inputs.items():
        assert values.dtype == found.inputs[name].dtype
        np.testing.assert_array_equal(found.inputs[name], values)
    for task, labels in expected.labels.items():
        np.testing.assert_array_equal(found.labels[task], labels)
    np.testing.assert_array_equal(found.lengths, expected.lengths)
    np.testing.assert_array_equal(found.drawers, expected.drawers)
    assert found.classes == expected.classes
    assert found.missing == expected.missing == ()


def test_drawings_keep_label_drawer_and_both_sides(tree):
    data = load_omniglot(tree, ALPHABETS)
    assert data.classes == {"character": CHARACTERS, "alphabet": list(ALPHABETS)}
    assert data.labels["alphabet"].tolist() == [0] * 16 + [1] * 16
    for row, (label, drawer) in enumerate(zip(data.labels["character"], data.drawers, strict=True)):
        strokes = drawn(label, drawer)
        path = np.array([point for stroke in strokes for point in stroke])
        width = np.ptp(path[:, 0]) / np.ptp(path[:, 1])
        there = data.inputs["pen"][row, : data.lengths[row], :2]
        assert np.ptp(there[:, 0]) / np.ptp(there[:, 1]) == pytest.approx(width, rel=1e-5)
        ink = ~np.asarray(picture(strokes))
        shown = data.inputs["picture"][row, ..., 0]
        assert shown[4, 7] == round(255 * ink[12:15, 21:24].mean())
        assert shown.mean() / 255 == pytest.approx(ink.mean(), rel=0.01)
    assert load_omniglot(tree, ["Latin"]).classes["character"] == CHARACTERS[2:]


def test_pictures_without_a_path_are_named(tmp_path):
    lost = "Latin/character01/0702_03"
    write(tmp_path, without=[lost])
    data = load_omniglot(tmp_path, ALPHABETS)
    assert data.missing == (lost,)
    assert len(data.drawers) == len(data.inputs["pen"]) == 31
    assert not ((data.drawers == 3) & (data.labels["character"] == 2)).any()


def test_files_that_are_not_there_or_not_as_published(tree, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"strokes_background.*Download.*0 pictures"):
        read_drawings(tmp_path, ALPHABETS)
    with pytest.raises(ValueError, match=r"--alphabets.*\['Klingon'\]"):
        read_drawings(tree, ["Greek", "Klingon"])
    broken = shutil.copytree(tree, tmp_path / "broken")
    name = "Greek/character01/0700_01"
    for text in ("START\nBREAK\n", "START\n1,2\n", "", "START\n1,-2,zero\nBREAK"):
        (broken / "strokes_background" / f"{name}.txt").write_text(text)
        with pytest.raises(ValueError, match=rf"as published.*{name}"):
            read_drawings(broken, ALPHABETS)
    Image.new("1", (28, 28)).save(broken / "images_background" / f"{name}.png")
    with pytest.raises(ValueError, match=r"105 x 105.*\(28, 28\)"):
        read_drawings(broken, ALPHABETS)
    (broken / "images_background" / f"{name}.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=rf"as published.*{name}"):
        read_drawings(broken, ALPHABETS)


def test_points_lie_evenly_along_each_stroke():
    path = np.array(
        [(0, 0, 0, 0), (1, 0, 10, 0), (50, 0, 500, 1), (50, 30, 90_000, 0), (50, 100, 90_700, 1)],
        "float32",
    )
    steps = path_steps(path)
    assert len(steps) == 1 + 20 + 1 + 28  # 50 and 70 pixels, a point every 2.5.
    x, y, dx, dy, time, pen = steps.T
    assert np.flatnonzero(pen < 0).tolist() == [21]
    assert (np.abs(pen) == 1).all()
    np.testing.assert_allclose(dx[1:21], 0.025, rtol=1e-4)  # Of 100 pixels, the longer side.
    np.testing.assert_allclose(dy[22:], 0.025, rtol=1e-4)
    assert (x.min(), x.max(), y.min(), y.max()) == (-0.25, 0.25, -0.5, 0.5)
    np.testing.assert_allclose(dy[21], 0.3, rtol=1e-4)  # Through the air.
    np.testing.assert_allclose(time[10], np.log1p(25), rtol=1e-4)  # 2.5 pixels at 0.1 a ms.
    np.testing.assert_allclose(time[21], np.log1p(5000), rtol=1e-4)  # A pause counts 5 s at most.


def zigzag(points):
    x = np.arange(points) % 2 * 100.0
    return np.column_stack([x, np.arange(points), 10.0 * np.arange(points), np.zeros(points)])


@pytest.mark.parametrize(
    ("path", "length"),
    [
        (np.array([[5, 5, 0, 1.0]]), 1),  # A dot.
        (np.array([[5, 5, 0, 0], [5, 5, 9, 1.0]]), 1),
        (np.array([[5, 5, 0, 1], [9, 9, 9, 1.0]]), 2),  # Two dots.
        (np.array([[0, 0, 0, 0], [10, 0, 9, 0.0]]), 5),  # Its last BREAK is not there.
        (zigzag(40), STEPS - 1),
        (np.column_stack([np.tile([[1, 2], [5, 2]], (300, 1)), np.arange(600), np.ones(600)]), 128),
    ],
)
def test_lengths_of_paths(path, length):
    steps = path_steps(path.astype("float32"))
    assert steps.shape == (length, len(CHANNELS))
    assert np.isfinite(steps).all()
    assert np.abs(steps).max(1).min() >= 1  # No step looks like padding.


def test_zeros_follow_the_end_of_each_path(tree):
    data = load_omniglot(tree, ALPHABETS)
    there = data.inputs["pen"].any(-1)
    np.testing.assert_array_equal(there, np.arange(STEPS) < data.lengths[:, None])
    assert len(set(data.lengths.tolist())) > 2


@pytest.mark.parametrize("training", [False, True])
def test_model_does_not_see_what_follows_the_end(tree, training):
    data = load_omniglot(tree, ALPHABETS)
    paths = data.inputs["pen"]
    assert data.lengths.max() <= 80
    models = [build_model("pen", (steps, len(CHANNELS)), 4) for steps in (80, STEPS)]
    models[1].set_weights(models[0].get_weights())
    outputs = []
    for model in models:
        [dropout] = [one for one in model.layers if isinstance(one, keras.layers.Dropout)]
        dropout.rate = 0.0
        feature = keras.Model(model.input, model.get_layer("feature").output)
        seen = feature(paths[:, : model.input_shape[1]], training=training)
        outputs.append(keras.ops.convert_to_numpy(seen))
    assert np.ptp(outputs[0], axis=0).max() > 0.01
    np.testing.assert_allclose(*outputs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("modality", MODALITIES)
def test_model_is_saved_and_has_the_feature(tree, tmp_path, modality):
    x = load_omniglot(tree, ALPHABETS).inputs[modality]
    model = build_model(modality, x.shape[1:], 4)
    assert model.get_layer("feature").output.shape == (None, 128)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    before, after = (one.predict(x, verbose=0) for one in (model, again))
    assert before.shape == (32, 4)
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_no_drawer_is_in_two_folds(seed):
    drawers = np.tile(np.arange(1, 21), 7)
    folds = split_by_drawer(drawers, seed)
    groups = {name: set(drawers[rows].tolist()) for name, rows in folds.items()}
    assert {name: len(found) for name, found in groups.items()} == {
        "train": 12, "validation": 3, "test": 5,
    }  # fmt: skip
    assert len(set.union(*groups.values())) == 20
    assert sorted(np.concatenate(list(folds.values()))) == list(range(140))


def test_few_labels_folds_and_models(tree):
    data = load_omniglot(tree, ALPHABETS)
    assert few_labels(data, "character") == 8
    folds = split_by_drawer(data.drawers, 0)
    labels = Labels.of(data.labels["character"])
    assert (labels.hidden(folds["train"], 8, 0) >= 0).sum() == 8
    assert {name: len(rows) for name, rows in folds.items()} == {
        "train": 16, "validation": 8, "test": 8,
    }  # fmt: skip
    for modality, inputs in data.inputs.items():
        model = build_model(modality, inputs.shape[1:], len(data.classes["character"]))
        assert model.output_shape == (None, 4)


@whole_recipe
def test_recipe_writes_its_report(tmp_path, capsys):
    lost = "Greek/character02/0701_05"
    write(tmp_path, without=[lost])
    output = tmp_path / "out"
    found = recipe.main([
        "--data", str(tmp_path), "--alphabets", *ALPHABETS, "--methods", "kd", "--splits", "1",
        "--epochs", "1", "--processes", "1", "--output", str(output),
    ])  # fmt: skip
    assert set(found) == {("picture", "pen"), ("pen", "picture")}
    for results in found.values():
        assert results.failures == []
        assert results.budgets == [None, 8]
        assert [one.method for one in results.summaries()] == ["none", "kd"]
        assert len(results.runs("kd", 8)) == 1
    report = (output / "character" / "report.md").read_text()
    assert f"no pen path: 1 ({lost})." in report
    assert "one of 4" in report
    assert "pen teaches picture" in report
    assert f"The report is {output / 'character' / 'report.md'}" in capsys.readouterr().out


def test_unknown_method_is_named(tree):
    with pytest.raises(SystemExit, match=r"No such methods: \['magic'\]"):
        recipe.main(["--data", str(tree), "--methods", "magic"])


@pytest.mark.skipif(not (MEASURED / "omniglot_small.npz").is_file(), reason="the data are not here")
def test_real_drawings():
    data = load_omniglot(MEASURED)
    assert data.inputs["picture"].shape == (4840, 35, 35, 1)
    assert len(data.classes["character"]) == 242
    assert data.missing == ()
    assert (data.inputs["pen"].any(-1).sum(1) == data.lengths).all()
    # Ink lies where the pen was: the place of a path, laid over its picture.
    drawings = read_drawings(MEASURED, ["Greek"])
    hits = []
    for ink, path in zip(drawings.ink, drawings.paths, strict=True):
        column, row = path[:, :2].round().astype(int).T
        inside = (column < 105) & (row < 105)  # Some pens left the picture.
        hits += ink[row[inside], column[inside]].tolist()
    assert np.mean(hits) > 0.99
