"""A distilled student is a plain Keras model: it exports as any other, with the same outputs."""

import keras
import numpy as np
import pytest
from conftest import classifier, cross_entropy, pairs

from keras_fdkd import FrequencyDistiller, MutualDistiller


@pytest.fixture
def student():
    distiller = FrequencyDistiller(
        classifier(6, features=20), classifier(4, batch_norm=True, dropout=0.2)
    )
    distiller.compile("adam", loss=cross_entropy())
    x, y = pairs()
    distiller.fit(x, y, verbose=0)
    return distiller.student


def test_a_distiller_points_to_its_student(tmp_path):
    distiller = FrequencyDistiller(classifier(6), classifier(4))
    for format in ("tf_saved_model", "onnx"):
        with pytest.raises(ValueError, match=r"Call `distiller\.student\.export\(\.\.\.\)`"):
            distiller.export(tmp_path / "distiller", format=format)
    other = FrequencyDistiller(classifier(4), classifier(6))
    mutual = MutualDistiller({"audio": distiller, "video": other})
    with pytest.raises(ValueError, match=r"distiller\.distillers\[name\]\.student\.export"):
        mutual.export(tmp_path / "distiller")
    assert not list(tmp_path.iterdir())


# What the exporters themselves warn of.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::PendingDeprecationWarning")
def test_onnx(student, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="`nox -s export` installs it")
    x = pairs()[0]["student"][:1]  # PyTorch's exporter fixes the batch size.
    student.export(tmp_path / "student.onnx", format="onnx", verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "student.onnx")
    (outputs,) = session.run(None, {session.get_inputs()[0].name: x})
    np.testing.assert_allclose(outputs, student.predict(x, verbose=0), rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(
    keras.config.backend() != "tensorflow", reason="the others need TensorFlow to write it"
)
def test_saved_model(student, tmp_path):
    import tensorflow as tf

    x = pairs()[0]["student"]
    student.export(tmp_path / "student", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "student")
    outputs = loaded.serve(x)
    np.testing.assert_allclose(outputs, student.predict(x, verbose=0), rtol=1e-5, atol=1e-5)
