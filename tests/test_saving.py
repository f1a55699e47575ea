"""Files of distillers: training goes on as if it had never stopped, with or without the teacher."""

import json
import warnings
import zipfile

import h5py
import keras
import numpy as np
import pytest
from conftest import GOLDEN, classifier, cross_entropy, pairs
from keras import ops

from keras_fdkd import (
    PUBLISHED,
    C2KDDistiller,
    CrossModalDistiller,
    FrequencyDistiller,
    MutualDistiller,
    fingerprint,
)
from keras_fdkd.losses import AFD, CRD, KD, FitNet


def frequency():
    return FrequencyDistiller(
        classifier(6, features=20, batch_norm=True),
        classifier(4, batch_norm=True),
        teacher_features="pool",
        cutoff=0.3,
        band_task_weight=0.2,
        align_loss=cross_entropy(ignore_class=-1),
        extra_losses=[KD(3.0)],
        extra_loss_weights=[0.5],
    )


def adapters():
    losses = [
        FitNet(),
        CRD(24, dim=8, negatives=10),
        AFD(teacher_layer_name=["map", "map2"], student_layer_name=["map", "map2"]),
    ]
    return CrossModalDistiller(_maps(6), _maps(4), losses=losses, loss_weights=[1.0, 0.3, 2.0])


def _maps(size):
    inputs = keras.Input((size,))
    x = keras.layers.Reshape((size, 1))(inputs)
    x = keras.layers.Conv1D(4, 3, padding="same", name="map")(x)
    x = keras.layers.Conv1D(4, 3, padding="same", name="map2")(x)
    x = keras.layers.Flatten()(x)
    return keras.Model(inputs, keras.layers.Dense(3)(x))


def jointly():
    return C2KDDistiller(classifier(6), classifier(4), krc=-0.5)


def mutual():
    return MutualDistiller(
        {
            "student": FrequencyDistiller(classifier(6), classifier(4)),
            "teacher": CrossModalDistiller(classifier(4), classifier(6), losses=[KD()]),
        }
    )


MAKERS = [frequency, adapters, jointly, mutual]


def data(distiller):
    x, y = pairs()
    if isinstance(distiller, CrossModalDistiller) and len(distiller.adapters) > 1:
        x["index"] = np.arange(24)
    return x, y


def train(distiller, epochs=2):
    x, y = data(distiller)
    return distiller.fit(x, y, epochs=epochs, batch_size=8, shuffle=False, verbose=0).history


def compiled(distiller):
    rate = keras.optimizers.schedules.CosineDecay(1e-2, 50)
    distiller.compile(
        keras.optimizers.AdamW(rate, clipnorm=1.0),
        loss=cross_entropy(ignore_class=-1),
        metrics=["accuracy"],
        weighted_metrics=[keras.metrics.SparseCategoricalCrossentropy(from_logits=True)],
    )
    return distiller


def assert_same_logs(histories):
    first, second = histories
    assert set(first) == set(second)
    for name, values in first.items():
        np.testing.assert_allclose(second[name], values, rtol=1e-6, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("make", MAKERS)
def test_a_saved_distiller_goes_on(make, tmp_path):
    distiller = compiled(make())
    train(distiller)
    distiller.save(tmp_path / "d.keras")
    loaded = keras.saving.load_model(tmp_path / "d.keras")
    assert type(loaded) is type(distiller)
    assert loaded.get_config().keys() == distiller.get_config().keys()
    assert loaded.optimizer.get_config() == distiller.optimizer.get_config()
    assert int(loaded.optimizer.iterations) == 6
    assert_same_logs([train(model) for model in (distiller, loaded)])


@pytest.mark.parametrize("make", MAKERS)
def test_weights_go_on_beside_the_same_teacher(make, tmp_path):
    distiller = compiled(make())
    train(distiller)
    distiller.save_weights(tmp_path / "d.weights.h5")
    other = make()
    for role in ("teacher", "student"):
        for mine, its in zip(_models(other, role), _models(distiller, role), strict=True):
            if role == "teacher" and not isinstance(distiller, C2KDDistiller):
                mine.set_weights(its.get_weights())
    compiled(other).load_weights(tmp_path / "d.weights.h5")
    assert int(other.optimizer.iterations) == 6
    assert_same_logs([train(model) for model in (distiller, other)])


def _models(distiller, role):
    inner = getattr(distiller, "distillers", {"": distiller})
    return [getattr(one, role) for one in inner.values()]


@pytest.mark.parametrize("make", [frequency, mutual])
def test_weights_ask_for_their_teacher(make, tmp_path):
    distiller, other = compiled(make()), compiled(make())
    distiller.save_weights(tmp_path / "d.weights.h5")
    wanted = fingerprint(_models(distiller, "teacher")[0])
    before = [fingerprint(model) for model in _models(other, "student")]
    with pytest.raises(ValueError, match=f"teacher of fingerprint {wanted}"):
        other.load_weights(tmp_path / "d.weights.h5")
    assert [fingerprint(model) for model in _models(other, "student")] == before
    other.load_weights(tmp_path / "d.weights.h5", skip_mismatch=True)
    np.testing.assert_array_equal(
        _models(other, "student")[0].get_weights()[0],
        _models(distiller, "student")[0].get_weights()[0],
    )


def test_a_large_teacher_adds_no_byte(tmp_path):
    sizes = []
    for width in (8, 2_000_000):
        keras.utils.clear_session()
        teacher = classifier(6, features=width)
        assert teacher.count_params() > 10 * width
        distiller = CrossModalDistiller(teacher, classifier(4), losses=[KD()])
        distiller.compile("adam", loss=cross_entropy())
        distiller.save_weights(tmp_path / f"{width}.weights.h5")
        sizes.append((tmp_path / f"{width}.weights.h5").stat().st_size)
    assert sizes[0] == sizes[1]


def test_weights_hold_no_teacher(tmp_path):
    distiller = compiled(frequency())
    distiller.save_weights(tmp_path / "d.weights.h5")
    found = {}
    with h5py.File(tmp_path / "d.weights.h5") as file:
        file.visititems(lambda name, item: found.update({name: getattr(item, "shape", None)}))
    found = {name: shape for name, shape in found.items() if shape is not None}
    assert [name for name in found if "teacher" in name] == ["vars/teacher_fingerprint"]
    shapes = sorted(shape for name, shape in found.items() if not name.startswith(("opt", "vars")))
    trained = [distiller.student, distiller.projector, *distiller.align_heads.values(),
               *distiller.band_task_heads.values(), distiller.term_weights]  # fmt: skip
    assert shapes == sorted(tuple(weight.shape) for model in trained for weight in model.weights)
    assert "optimizer/vars/1" in found


def test_a_file_that_does_not_fit_changes_nothing(tmp_path):
    distiller = compiled(frequency())
    classifier(4, batch_norm=True).save_weights(tmp_path / "plain.weights.h5")
    wide = FrequencyDistiller(classifier(6, features=20), classifier(4, features=24))
    compiled(wide).save_weights(tmp_path / "wide.weights.h5")
    found = [*distiller.variables, *distiller.optimizer.variables]
    before = [np.array(ops.convert_to_numpy(variable)) for variable in found]
    for name in ("plain", "wide"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras's, of the optimizer.
            with pytest.raises(ValueError, match="could not be loaded"):
                distiller.load_weights(tmp_path / f"{name}.weights.h5")
        for variable, value in zip(found, before, strict=True):
            np.testing.assert_array_equal(ops.convert_to_numpy(variable), value)


def test_a_whole_file_brings_its_teacher(tmp_path):
    distiller, other = compiled(frequency()), compiled(frequency())
    distiller.save(tmp_path / "d.keras")
    other.load_weights(tmp_path / "d.keras")
    assert fingerprint(other.teacher) == fingerprint(distiller.teacher)


@pytest.mark.parametrize("kind", ["save", "save_weights"])
def test_a_failed_write_leaves_the_file(kind, tmp_path, monkeypatch):
    path = tmp_path / ("d.keras" if kind == "save" else "d.weights.h5")
    distiller = compiled(frequency())
    getattr(distiller, kind)(path)
    before = path.read_bytes()

    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(distiller.student, "save_own_variables", fail)
    monkeypatch.setattr(distiller.student.layers[0], "save_own_variables", fail)
    with pytest.raises(OSError, match="disk full"):
        getattr(distiller, kind)(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_several_files_of_weights(tmp_path):
    distiller, other = compiled(frequency()), compiled(frequency())
    other.teacher.set_weights(distiller.teacher.get_weights())
    distiller.save_weights(tmp_path / "d.weights.json", max_shard_size=0.0000015)
    assert len(list(tmp_path.glob("*.h5"))) > 1
    other.load_weights(tmp_path / "d.weights.json")
    x, _ = pairs()
    np.testing.assert_array_equal(
        other.predict(x["student"], verbose=0), distiller.predict(x["student"], verbose=0)
    )


def test_a_subclass_of_the_user_keeps_its_compile(tmp_path):
    @keras.saving.register_keras_serializable(package="tests")
    class Halved(FrequencyDistiller):
        def compile(self, *args, task_scale=0.5, **kwargs):
            super().compile(*args, **kwargs)
            self.task_scale = task_scale

        def get_compile_config(self):
            return {**super().get_compile_config(), "task_scale": self.task_scale}

    distiller = Halved(classifier(6), classifier(4))
    distiller.compile("adam", loss=cross_entropy(), task_scale=0.25)
    distiller.save(tmp_path / "d.keras")
    assert keras.saving.load_model(tmp_path / "d.keras").task_scale == 0.25


@pytest.mark.parametrize("backend", ["jax", "tensorflow", "torch"])
def test_files_of_every_backend(backend):
    """Files that `tests/golden/saved.py` wrote: the same predictions, the same next losses."""
    loaded = keras.saving.load_model(GOLDEN / f"saved_{backend}.keras")
    expected = json.loads((GOLDEN / f"saved_{backend}.json").read_text())
    x, y = pairs()
    predictions = loaded.predict(x["student"], verbose=0)
    np.testing.assert_allclose(predictions, expected["predictions"], rtol=1e-5, atol=1e-5)
    history = loaded.fit(x, y, epochs=2, batch_size=8, shuffle=False, verbose=0).history
    assert set(history) == set(expected["history"])
    for name, values in expected["history"].items():
        np.testing.assert_allclose(history[name], values, rtol=1e-4, atol=1e-5, err_msg=name)


def test_configuration_cannot_name_code(tmp_path):
    """In safe mode nothing in a file of ours can bring code along."""
    distiller = compiled(FrequencyDistiller(classifier(6), classifier(4), **PUBLISHED))
    distiller.save(tmp_path / "d.keras")
    with zipfile.ZipFile(tmp_path / "d.keras") as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(files["config.json"])
    lambda_layer = {
        "module": "builtins",
        "class_name": "__lambda__",
        "config": {"code": "4wEAAAA=", "defaults": None, "closure": None},
        "registered_name": None,
    }
    hostile = {
        "a lambda": lambda_layer,
        "a function of the system": {
            "module": "os", "class_name": "system", "config": "true", "registered_name": "system",
        },
        "a class from anywhere": {
            "module": "subprocess", "class_name": "Popen", "config": {"args": ["true"]},
            "registered_name": "Popen",
        },
    }  # fmt: skip
    for what, value in hostile.items():
        for argument in ("projector", "align_loss", "low_loss", "student"):
            bad = {**config, "config": {**config["config"], argument: value}}
            with zipfile.ZipFile(tmp_path / "bad.keras", "w") as archive:
                for name, content in files.items():
                    archive.writestr(name, json.dumps(bad) if name == "config.json" else content)
            with pytest.raises((ValueError, TypeError)) as caught:
                keras.saving.load_model(tmp_path / "bad.keras")
            assert caught.value, (what, argument)


def test_compile_as_given(tmp_path):
    distiller = compiled(frequency())
    assert distiller.get_compile_config()["jit_compile"] == "auto"
    distiller.compile("adam", loss=cross_entropy(), jit_compile=False)
    distiller.save(tmp_path / "d.keras")
    assert keras.saving.load_model(tmp_path / "d.keras").jit_compile is False
    optimizer = distiller.get_compile_config()["optimizer"]
    assert (optimizer["module"], optimizer["class_name"]) == ("keras.optimizers", "Adam")
    scaled = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.5))
    distiller.compile(scaled, loss=cross_entropy())
    distiller.save(tmp_path / "d.keras")
    assert (
        keras.saving.load_model(tmp_path / "d.keras").optimizer.inner_optimizer.learning_rate == 0.5
    )


def test_without_compile(tmp_path):
    distiller, other = frequency(), frequency()
    other.teacher.set_weights(distiller.teacher.get_weights())
    distiller.save(tmp_path / "d.keras")
    distiller.save_weights(tmp_path / "d.weights.h5")
    other.load_weights(tmp_path / "d.weights.h5")
    loaded = keras.saving.load_model(tmp_path / "d.keras")
    assert not loaded.compiled
    for model in (other, loaded):
        assert fingerprint(model.student) == fingerprint(distiller.student)


def test_fingerprint():
    model = classifier(4)
    same = classifier(4)
    same.set_weights(model.get_weights())
    assert fingerprint(model) == fingerprint(same)
    weights = model.get_weights()
    weights[-1] = np.nextafter(weights[-1], 1)
    same.set_weights(weights)
    assert fingerprint(model) != fingerprint(same)
    half = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3, dtype="bfloat16", kernel_initializer="ones")]
    )
    # The same on every backend.
    assert fingerprint(half) == "70783beeeaf67fe0"
    assert ops.convert_to_numpy(half.layers[0].bias).sum() == 0
