"""KerasHub's models as teacher and student: `nox -s hub` installs it, which brings TensorFlow."""

import keras
import numpy as np
import pytest
from conftest import cross_entropy

from keras_fdkd import CrossModalDistiller, FrequencyDistiller, fingerprint
from keras_fdkd.losses import KD
from keras_fdkd.model_checks import check_own_training, check_preprocessor

keras_hub = pytest.importorskip("keras_hub", reason="`nox -s hub` installs it")


def image_classifier():
    backbone = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64, 64],
        stackwise_num_blocks=[1, 1],
        stackwise_num_strides=[1, 2],
        block_type="basic_block",
        image_shape=(16, 16, 3),
    )
    return keras_hub.models.ResNetImageClassifier(backbone, num_classes=3, preprocessor=None)


def text_classifier():
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=50, num_layers=2, num_heads=2, hidden_dim=16, intermediate_dim=32,
        max_sequence_length=8,
    )  # fmt: skip
    return keras_hub.models.BertTextClassifier(backbone, num_classes=3, preprocessor=None)


def data(samples=16):
    rng = np.random.default_rng(0)
    text = {
        "token_ids": rng.integers(50, size=(samples, 8)).astype("int32"),
        "segment_ids": np.zeros((samples, 8), "int32"),
        "padding_mask": np.ones((samples, 8), "int32"),
    }
    image = rng.normal(size=(samples, 16, 16, 3)).astype("float32")
    return text, image, rng.integers(3, size=samples).astype("int32")


@pytest.mark.parametrize("direction", ["text to image", "image to text"])
def test_nested_models(direction, tmp_path):
    text, image, labels = data()
    sides = [(text_classifier(), text), (image_classifier(), image)]
    if direction == "image to text":
        sides.reverse()
    (teacher, teacher_inputs), (student, student_inputs) = sides
    distiller = FrequencyDistiller(teacher, student)
    distiller.compile(keras.optimizers.Adam(1e-2), loss=cross_entropy(), metrics=["accuracy"])
    x = {"teacher": teacher_inputs, "student": student_inputs}
    before = fingerprint(teacher)
    history = distiller.fit(x, labels, batch_size=8, epochs=6, verbose=0).history
    assert fingerprint(teacher) == before
    assert history["low_loss"][-1] < history["low_loss"][0]
    assert history["task_loss"][-1] < history["task_loss"][0]
    distiller.save_weights(tmp_path / "d.weights.h5")
    distiller.save(tmp_path / "d.keras")
    loaded = keras.saving.load_model(tmp_path / "d.keras")
    np.testing.assert_allclose(
        loaded.predict(student_inputs, verbose=0),
        distiller.predict(student_inputs, verbose=0),
        rtol=1e-5,
        atol=1e-5,
    )


@pytest.mark.parametrize("inside", [True, False])
def test_layers_by_path(inside):
    text, image, labels = data()
    teacher, student = text_classifier(), image_classifier()
    paths = {"student_features": "output_dropout"}
    if inside:
        paths["teacher_features"] = f"{teacher.backbone.name}/pooled_dense"
    distiller = FrequencyDistiller(teacher, student, **paths)
    distiller.compile("adam", loss=cross_entropy())
    logs = distiller.fit({"teacher": text, "student": image}, labels, verbose=0).history
    assert np.isfinite(logs["loss"]).all()
    feature, _ = distiller.predict_features({"teacher": text, "student": image})
    assert feature.shape == (16, 16)


def test_preprocessed_by_hand_a_task_predicts_what_it_did():
    """The advice of `check_preprocessor`, followed."""
    task = image_classifier()
    converter = keras_hub.layers.ResNetImageConverter(image_size=(16, 16), scale=1 / 255.0)
    task.preprocessor = keras_hub.models.ResNetImageClassifierPreprocessor(converter)
    images = np.random.default_rng(0).integers(0, 255, (8, 16, 16, 3)).astype("float32")
    labels = np.arange(8) % 3
    expected = task.predict(images, verbose=0)
    with pytest.raises(ValueError, match="model.preprocessor = None"):
        check_preprocessor(task, "teacher")
    x, y = task.preprocessor(images, labels)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(y), labels)
    x = keras.ops.convert_to_numpy(task.preprocessor(images))
    task.preprocessor = None
    check_preprocessor(task, "teacher")
    check_own_training(task)
    distiller = CrossModalDistiller(task, image_classifier(), losses=[KD()])
    found = distiller.predict_teacher(x)["predictions"]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def deep_lab(channels, size=64):
    """Return a `DeepLabV3ImageSegmenter` of four classes."""
    models = keras_hub.models
    encoder = models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64, 64, 64, 64],
        stackwise_num_blocks=[1, 1, 1, 1],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="basic_block",
        image_shape=(size, size, channels),
    )
    backbone = models.DeepLabV3Backbone(
        image_encoder=encoder,
        low_level_feature_key="P2",
        spatial_pyramid_pooling_key="P4",
        dilation_rates=[1, 2],
        upsampling_size=4,
        projection_filters=8,
        image_shape=(size, size, channels),
    )
    return models.DeepLabV3ImageSegmenter(
        backbone=backbone, num_classes=4, activation=None, preprocessor=None
    )


def seg_former(channels, size=64):
    """Return a `SegFormerImageSegmenter` of four classes."""
    models = keras_hub.models
    encoder = models.MiTBackbone(
        layerwise_depths=[1, 1, 1, 1],
        num_layers=4,
        image_shape=(size, size, channels),
        hidden_dims=[8, 16, 24, 32],
        layerwise_num_heads=[1, 1, 2, 2],
        layerwise_sr_ratios=[4, 2, 1, 1],
        max_drop_path_rate=0.0,
        layerwise_patch_sizes=[7, 3, 3, 3],
        layerwise_strides=[4, 2, 2, 2],
    )
    backbone = models.SegFormerBackbone(image_encoder=encoder, projection_filters=16)
    return models.SegFormerImageSegmenter(backbone=backbone, num_classes=4, preprocessor=None)


@pytest.mark.parametrize(("teacher", "student"), [(deep_lab, seg_former), (seg_former, deep_lab)])
@pytest.mark.filterwarnings("ignore:Explicitly requested dtype int64")
# `DeepLabV3Backbone` leaves the last stage of its encoder unused.
@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_segmenters(teacher, student):
    """Bands over space between maps of other sizes, KD a pixel, void pixels, mean IoU."""
    teacher, student = teacher(3), student(1)
    rng = np.random.default_rng(0)
    x = {
        "teacher": rng.normal(size=(4, 64, 64, 3)).astype("float32"),
        "student": rng.normal(size=(4, 64, 64, 1)).astype("float32"),
    }
    y = rng.integers(4, size=(4, 64, 64))
    y[:, :4] = 255
    distiller = FrequencyDistiller(
        teacher,
        student,
        teacher_features=teacher.backbone.name,
        student_features=student.backbone.name,
        axis=(1, 2),
        extra_losses=[KD()],
    )
    assert not distiller.align_heads
    iou = keras.metrics.MeanIoU(4, ignore_class=255, sparse_y_pred=False, name="iou")
    loss = cross_entropy(ignore_class=255)
    distiller.compile(keras.optimizers.Adam(1e-3), loss, metrics=[iou])
    before = fingerprint(teacher)
    history = distiller.fit(x, y, batch_size=4, epochs=4, verbose=0).history
    assert fingerprint(teacher) == before
    assert history["low_loss"][-1] < history["low_loss"][0]
    assert history["kd_loss"][-1] < history["kd_loss"][0]
    assert 0 <= history["iou"][-1] <= 1
    assert distiller.predict(x["student"], verbose=0).shape == (4, 64, 64, 4)
