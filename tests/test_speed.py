"""What distillation costs: what the measurements rest on, and what a step keeps."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import cross_entropy, pairs, whole_recipe

from keras_fdkd import FrequencyDistiller
from recipes.performance import speed_report
from recipes.performance.speed_models import PAIRS
from recipes.performance.speed_report import ratio, write_report
from recipes.performance.speed_trainers import LIMIT, OURS, Limit, trainers

BACKEND = keras.config.backend()
WIDTH = 37  # of the teacher's hidden layers, and of nothing else


def deep_teacher(layers=6):
    hidden = [keras.layers.Dense(WIDTH, "tanh", name=f"deep_{n}") for n in range(layers)]
    last = [keras.layers.Dense(16, "relu", name="pool"), keras.layers.Dense(3)]
    return keras.Sequential([keras.Input((6,)), *hidden, *last])


def distiller(layers=6):
    student = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(3)]
    )
    model = FrequencyDistiller(deep_teacher(layers), student)
    model.compile("sgd", loss=cross_entropy())
    return model


@pytest.mark.skipif(BACKEND != "torch", reason="of PyTorch")
def test_torch_saves_no_activation_of_the_teacher():
    import torch

    model, (x, y) = distiller(), pairs(24)
    model.fit(x, y, verbose=0)
    saved = []
    hooks = torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: saved.append(tuple(tensor.shape)) or tensor, lambda tensor: tensor
    )
    with hooks:
        model.train_on_batch(x, y)
        assert any(16 in shape for shape in saved)  # The student's.
        assert not [shape for shape in saved if WIDTH in shape]


@pytest.mark.skipif(BACKEND != "tensorflow", reason="of TensorFlow")
def test_tensorflow_uses_no_activation_of_the_teacher_backward():
    import tensorflow as tf

    model, (x, y) = distiller(), pairs(24)
    model.fit(x, y, verbose=0)
    batch = keras.tree.map_structure(tf.constant, (x, y))
    graph = tf.function(model.train_step).get_concrete_function(batch).graph
    backward = [op for op in graph.get_operations() if "gradient_tape" in op.name]
    assert backward
    sizes = [tensor.shape for op in backward for tensor in op.inputs if tensor.shape.rank]
    assert any(16 in shape for shape in sizes)
    assert not [shape for shape in sizes if WIDTH in shape]


@pytest.mark.skipif(BACKEND != "jax", reason="of JAX")
def test_jax_keeps_no_activation_of_the_teacher():
    """What a step needs besides its arguments does not grow with the depth of the teacher."""
    import jax

    def working_memory(layers):
        model, (x, y) = distiller(layers), pairs(4096)
        model.fit(x, y, verbose=0, batch_size=4096)
        state = [
            [variable.value for variable in variables]
            for variables in (
                model.trainable_variables,
                model.non_trainable_variables,
                model.optimizer.variables,
                model.metrics_variables,
            )
        ]
        step = jax.jit(model.train_step).lower(tuple(state), (x, y)).compile()
        return step.memory_analysis().temp_size_in_bytes

    shallow, deep = working_memory(3), working_memory(24)
    assert deep < shallow + 4096 * WIDTH * 4 * 2  # 21 kept layers would be 21 times this half


@pytest.mark.parametrize("waits", [False, True])
def test_the_limit_runs_its_teacher(waits):
    """Its loss depends on the teacher's outputs, by less than rounding: no pass is dropped."""
    x, y = pairs(64)
    for broken in (False, True):
        teacher = deep_teacher()
        if broken:
            teacher.set_weights([np.full_like(weight, np.nan) for weight in teacher.get_weights()])
        student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        limit = Limit(teacher, student, waits)
        limit.compile("sgd", loss=cross_entropy(), metrics=["accuracy"])
        loss = limit.fit(x, y, verbose=0, batch_size=64).history["loss"][0]
        assert np.isnan(loss) == broken


@pytest.mark.parametrize(
    "name",
    ["tiny", pytest.param("maps", marks=whole_recipe), pytest.param("masked", marks=whole_recipe)],
)
def test_all_trainers_train(name):
    from dataclasses import replace

    pair = replace(PAIRS[name], steps=1)
    losses = {}
    for name, make in trainers(pair).items():
        model, x, y = make()
        size = {} if y is None else {"batch_size": 64}
        losses[name] = model.fit(x, y, verbose=0, shuffle=False, **size).history["loss"][0]
    assert np.isfinite(list(losses.values())).all()
    assert losses[OURS] > losses[LIMIT]


def test_the_models_fit_the_comparison():
    """`keras.distillation` wants teacher and student outputs of the same shape."""
    sizes = {"resnet": 512, "tiny": 64, "maps": 64, "masked": 64}
    for name, size in sizes.items():
        teacher, student = (PAIRS[name].make(role) for role in ("teacher", "student"))
        assert teacher.input_shape == student.input_shape == (None, *PAIRS[name].shape)
        for model in (teacher, student):
            assert model.get_layer("feature").output.shape[-1] == size


def test_ratio_is_of_rounds():
    assert ratio([2.0, 30.0, 4.0], [1.0, 10.0, 4.0]) == (2.0, 1.5, 2.5)


def test_report_says_what_is_missed(tmp_path):
    seconds = {
        "limit": [1.0, 1.0],
        "limit, a second one": [1.0, 1.0],
        "limit that waits": [1.1, 1.1],
        "FrequencyDistiller": [1.2, 1.2],
        "keras.distillation": [2.4, 2.4],
        "student alone": [0.5, 0.5],
        "FrequencyDistiller, cached teacher": [0.51, 0.51],
        "CrossModalDistiller, loss of keras.distillation": [1.5, 1.5],
        "terms alone": [0.2, 0.1, 0.2],
    }
    figures = {
        "jax": {
            "steps resnet": [seconds],
            "assembly": [{"seconds": [0.002]}],
            "growth": [
                {
                    "feature size": {"64": 0.1, "61": 0.2},
                    "batch size": {"8": 0.1},
                    "tapped layers": {"1": 0.1},
                }
            ],
            **{f"memory {name}": [{"bytes": 100}] for name in seconds},
            "plain limit": [{"bytes": 100}],
            "plain FrequencyDistiller": [{"bytes": 103}, {"bytes": 102}, {"bytes": 110}],
        }
    }
    twos = {"two teachers": [1.04, 1.04], "limit of two teachers": [1.0, 1.0]}
    figures["jax"]["steps maps"] = [{**seconds, **twos}]
    text = "\n".join(write_report(figures, tmp_path))
    assert "| jax | 1.04 [1.04, 1.04] met |" in text
    assert "| 1.20 [1.20, 1.20] **missed** | 1.09 [1.09, 1.09] | 2.00 [2.00, 2.00] met |" in text
    assert "| 1.02 [1.02, 1.02] met |" in text
    assert "2.00 [2.00, 2.00] **missed** | 1.5" in text
    assert "| jax | 1.10 [1.10, 1.10] | 2.40 [2.40, 2.40] | 1.60 [1.60, 1.60] |" in text
    assert "| 200.00 ms | 1.20 | 1.40 |" in text
    assert "| jax | 0 MB | 1.000 met" in text
    assert "ours / limit on jax is 1.030 of" in text
    assert "| jax | 2.00 |" in text  # prime against power of two
    assert (tmp_path / "growth.png").stat().st_size > 1000
    assert (tmp_path / "speed.md").read_text() == text


def test_assembly_in_a_process_of_its_own():
    command = [sys.executable, "-m", "recipes.performance.speed", "--worker", "assembly"]
    folder = Path(__file__).parents[1]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, cwd=folder, env=os.environ
    )
    seconds = json.loads(done.stdout.rpartition("figures: ")[2])["seconds"]
    assert len(seconds) >= 20
    assert min(seconds) > 0


def test_the_report_names_the_pairs_that_are_timed():
    assert set(speed_report.PAIRS) == set(PAIRS)


def test_processors_are_named(tmp_path):
    """Ratios of two machines must be seen for what they are."""
    figures = {"machine": {"processor": "here"}, "jax": {},
               "processors": {"jax: steps hub": "there", "jax: growth": "here"}}  # fmt: skip
    lines = write_report(figures, tmp_path)
    assert "- of there: jax: steps hub" in lines
    assert not any("growth" in line for line in lines)
