"""What `nox -s package` runs with the installed package, away from the checkout."""

import re
from importlib.metadata import metadata
from pathlib import Path

import keras
import numpy as np

import keras_fdkd
from keras_fdkd import FrequencyDistiller
from keras_fdkd.study import Study


def check_metadata():
    folder = Path(keras_fdkd.__file__).parent
    assert "site-packages" in folder.parts, folder
    assert (folder / "py.typed").exists()
    found = metadata("keras-fdkd")
    assert found["Version"] == keras_fdkd.__version__
    links = re.findall(r"\]\(([^)]+)\)", found.get_payload())
    assert links
    assert all(link.startswith("https://") for link in links), links


def network(size):
    layers = [keras.layers.Dense(8, "relu"), keras.layers.Dense(2)]
    return keras.Sequential([keras.Input((size,)), *layers])


def use():
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=60)
    x = rng.normal(size=(60, 6)).astype("float32") + labels[:, None].astype("float32")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller = FrequencyDistiller(network(6), network(3))
    distiller.compile("adam", loss=loss)
    distiller.fit({"teacher": x, "student": x[:, :3]}, labels, verbose=0)
    study = Study(
        teacher_inputs=x, student_inputs=x[:, :3], labels=labels,
        build_teacher=lambda: network(6), build_student=lambda: network(3),
        methods=["fdcmkd"], cv=2, trials=1, fit={"epochs": 1},
        compile={"optimizer": "adam", "loss": loss, "metrics": ["accuracy"]},
    )  # fmt: skip
    assert len(study.run(verbose=0).rows) == 6


if __name__ == "__main__":
    check_metadata()
    use()
    print(f"keras-fdkd {keras_fdkd.__version__} works as installed.")
