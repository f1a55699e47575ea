"""Students with LoRA: files hold the factors as they are, and training goes on as if in peace."""

import keras
import numpy as np
import pytest
from conftest import classifier, cross_entropy, pairs
from keras import ops

from keras_fdkd import (
    C2KDDistiller,
    CrossModalDistiller,
    FrequencyDistiller,
    MutualDistiller,
    fingerprint,
)
from keras_fdkd.callbacks import CrashSafeBackup
from keras_fdkd.losses import KD


def adapted(size, rank=2, int8=False):
    inputs = keras.Input((size,))
    x = keras.layers.Reshape((1, size))(inputs)
    x = keras.layers.EinsumDense("abc,cd->abd", (1, 12), name="einsum")(x)
    x = keras.layers.Conv1D(8, 1, name="conv")(x)
    x = keras.layers.Flatten()(x)
    x = keras.layers.Dense(16, "relu", name="pool")(x)
    model = keras.Model(inputs, keras.layers.Dense(3, name="logits")(x))
    for name in ("einsum", "pool") if int8 else ("einsum", "conv", "pool"):
        if int8:
            model.get_layer(name).quantize("int8")
        model.get_layer(name).enable_lora(rank, lora_alpha=3.0)
    return model


def frequency(optimizer="adam", teacher=None, **kwargs):
    distiller = FrequencyDistiller(teacher or classifier(6), adapted(4, **kwargs))
    return compiled(distiller, optimizer)


def compiled(distiller, optimizer="adam"):
    optimizer = keras.optimizers.get(optimizer)
    optimizer.learning_rate = 1e-2
    distiller.compile(optimizer, loss=cross_entropy())
    return distiller


def jointly():
    return compiled(C2KDDistiller(adapted(6), adapted(4)))


def mutual():
    return compiled(
        MutualDistiller(
            {
                "student": FrequencyDistiller(classifier(6), adapted(4)),
                "teacher": CrossModalDistiller(adapted(4), adapted(6), losses=[KD()]),
            }
        )
    )


def quantized():
    return frequency(int8=True)


MAKERS = [frequency, jointly, mutual, quantized]


def train(model, epochs=1, **kwargs):
    x, y = pairs()
    return model.fit(x, y, epochs=epochs, batch_size=8, shuffle=False, verbose=0, **kwargs).history


def state(model, optimizer=True):
    found = [*model.variables, *(model.optimizer.variables if optimizer else ())]
    return [ops.convert_to_numpy(v) for v in found if v.name != "seed_generator_state"]


def assert_equal(first, second):
    for mine, its in zip(first, second, strict=True):
        np.testing.assert_array_equal(mine, its)


def factors(model):
    return [ops.convert_to_numpy(v) for v in model.trainable_variables if "lora_" in v.name]


@pytest.mark.parametrize("make", MAKERS)
def test_weights_bring_kernels_and_factors(make, tmp_path):
    distiller = make()
    train(distiller)
    distiller.save_weights(tmp_path / "d.weights.h5")
    before = state(distiller)
    assert all(np.abs(factor).max() > 0 for factor in factors(distiller))
    train(distiller)
    distiller.load_weights(tmp_path / "d.weights.h5")
    assert_equal(before, state(distiller))


@pytest.mark.parametrize("make", MAKERS)
def test_a_loaded_distiller_goes_on(make, tmp_path):
    distiller = make()
    train(distiller)
    distiller.save(tmp_path / "d.keras")
    loaded = keras.saving.load_model(tmp_path / "d.keras")
    assert_equal(state(distiller), state(loaded))
    assert len(loaded.trainable_variables) == len(distiller.trainable_variables)
    first, second = train(distiller), train(loaded)
    for name, values in first.items():
        np.testing.assert_allclose(second[name], values, rtol=1e-6, atol=1e-6, err_msg=name)


def test_alpha_comes_with_its_factors(tmp_path):
    teacher, alphas, x = classifier(6), [1.0, 5.0], pairs()[0]["student"]
    distiller, other = [CrossModalDistiller(teacher, classifier(4), losses=[KD()]) for _ in alphas]
    for made, alpha in zip((distiller, other), alphas, strict=True):
        made.student.get_layer("feature").enable_lora(2, alpha)
        train(compiled(made))
    distiller.save_weights(tmp_path / "d.weights.h5")
    other.predict(x, verbose=0)  # Compiled with the alpha of before.
    other.load_weights(tmp_path / "d.weights.h5")
    np.testing.assert_array_equal(other.predict(x, verbose=0), distiller.predict(x, verbose=0))
    strange = CrossModalDistiller(classifier(6), classifier(4), losses=[KD()])
    strange.student.get_layer("feature").enable_lora(2, 7.0)
    with pytest.raises(ValueError, match="teacher of fingerprint"):
        compiled(strange).load_weights(tmp_path / "d.weights.h5")
    assert strange.student.get_layer("feature").lora_alpha == 7.0


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_backup_ends_as_in_peace(optimizer, tmp_path):
    teacher = classifier(6)

    def run(epochs, *callbacks):
        keras.utils.set_random_seed(0)
        distiller = frequency(optimizer, teacher)
        train(distiller, epochs, callbacks=list(callbacks))
        return distiller

    run(2, CrashSafeBackup(tmp_path, keep=True))
    assert_equal(state(run(4)), state(run(4, CrashSafeBackup(tmp_path))))


def test_backup_of_a_plain_model(tmp_path):
    x, y = pairs()

    def run(epochs, *callbacks):
        keras.utils.set_random_seed(0)
        model = compiled(adapted(4), "sgd")
        model.fit(x["student"], y, epochs=epochs, shuffle=False, verbose=0, callbacks=callbacks)
        return model

    run(2, CrashSafeBackup(tmp_path, keep=True))
    assert_equal(state(run(4)), state(run(4, CrashSafeBackup(tmp_path))))


@pytest.mark.parametrize("make", [CrossModalDistiller, C2KDDistiller])
def test_lora_enabled_after_training(make, tmp_path):
    losses = {"losses": [KD()]} if make is CrossModalDistiller else {}
    distiller = compiled(make(classifier(6), classifier(4), **losses))
    train(distiller)
    distiller.student.get_layer("feature").enable_lora(2)
    compiled(distiller)
    train(distiller)
    distiller.save(tmp_path / "d.keras")
    loaded = keras.saving.load_model(tmp_path / "d.keras")
    assert_equal(state(distiller), state(loaded))
    train(distiller), train(loaded)  # No gradient of a step before is left in either.
    for mine, its in zip(state(distiller), state(loaded), strict=True):
        np.testing.assert_allclose(mine, its, atol=1e-5)
    before = state(distiller)
    distiller.save_weights(tmp_path / "d.weights.h5")
    train(distiller)
    distiller.load_weights(tmp_path / "d.weights.h5")
    assert_equal(before, state(distiller))


def test_several_files_of_weights(tmp_path):
    distiller = frequency()
    train(distiller)
    before = state(distiller)
    distiller.save_weights(tmp_path / "d.weights.json", max_shard_size=0.0000015)
    assert len(list(tmp_path.glob("*.h5"))) > 1
    train(distiller)
    distiller.load_weights(tmp_path / "d.weights.json")
    assert_equal(before, state(distiller))


def test_a_teacher_with_lora_is_the_same_after_loading(tmp_path):
    teacher = adapted(6)
    teacher.compile("adam", cross_entropy())
    x, y = pairs()
    teacher.fit(x["teacher"], y, verbose=0)
    distiller = compiled(FrequencyDistiller(teacher, classifier(4)))
    distiller.save(tmp_path / "d.keras")
    distiller.save_weights(tmp_path / "d.weights.h5")
    loaded = keras.saving.load_model(tmp_path / "d.keras")
    assert fingerprint(loaded.teacher) == fingerprint(teacher)
    loaded.load_weights(tmp_path / "d.weights.h5")  # It asks for the same teacher.


def test_weights_hold_no_teacher_with_lora(tmp_path):
    sizes = []
    for width in (8, 200_000):
        teacher = classifier(6, features=width)
        teacher.get_layer("feature").enable_lora(1)
        distiller = compiled(CrossModalDistiller(teacher, classifier(4), losses=[KD()]))
        distiller.save_weights(tmp_path / "d.weights.h5")
        sizes.append((tmp_path / "d.weights.h5").stat().st_size)
    assert sizes[0] == sizes[1]


def test_the_student_serves_merged(tmp_path):
    distiller = frequency()
    train(distiller)
    distiller.student.save(tmp_path / "student.keras")
    x, _ = pairs()
    loaded = keras.saving.load_model(tmp_path / "student.keras")
    np.testing.assert_allclose(
        loaded.predict(x["student"], verbose=0),
        distiller.predict(x["student"], verbose=0),
        atol=1e-5,
    )


def test_another_rank_is_refused_and_changes_nothing(tmp_path):
    teacher = classifier(6)
    distiller, other = frequency(teacher=teacher), frequency(teacher=teacher, rank=3)
    other.compile("sgd", loss=cross_entropy())  # Whose variables fit any rank.
    distiller.compile("sgd", loss=cross_entropy())
    distiller.save_weights(tmp_path / "d.weights.h5")
    before = state(other)
    with pytest.raises(ValueError, match="other LoRA layers or of another rank"):
        other.load_weights(tmp_path / "d.weights.h5")
    assert_equal(before, state(other))


def test_what_lora_a_file_lacks_or_has_too_much_is_said(tmp_path):
    teacher = classifier(6)
    plain, lora = [CrossModalDistiller(teacher, classifier(4), losses=[KD()]) for _ in range(2)]
    lora.student.get_layer("feature").enable_lora(2)
    plain.save_weights(tmp_path / "plain.weights.h5")
    lora.save_weights(tmp_path / "lora.weights.h5")
    with pytest.warns(UserWarning, match="holds no factors of LoRA"):
        lora.load_weights(tmp_path / "plain.weights.h5")
    with pytest.warns(UserWarning, match="written by a model with LoRA"):
        plain.load_weights(tmp_path / "lora.weights.h5")


def test_the_state_is_no_layer_of_the_distiller():
    distiller = frequency()
    assert not any("lora_state" in layer.name for layer in distiller.layers)
    assert len({id(v) for v in distiller.variables}) == len(distiller.variables)
