"""A control: the teacher's outputs of other samples."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_fdkd_recipes")
class NextSample(keras.layers.Layer):
    """Give each sample what the next one of its batch has, the last what the first has."""

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        return ops.roll(inputs, -1, axis=0)


def with_wrong_pairs(teacher: keras.Model, feature: str = "feature") -> keras.Model:
    """Return a teacher whose feature and logits are those of another sample.

    What a student gains from it is not what the teacher knows of the sample. The samples must come
    in random order: neighbours that are alike would be no wrong pairs.

    Args:
        teacher: Functional model that ends in logits.
        feature: Name of the layer that is compared.
    """
    outputs = {"features": teacher.get_layer(feature).output, "logits": teacher.output}
    moved = {name: NextSample(name=f"next_{name}")(one) for name, one in outputs.items()}
    return keras.Model(teacher.input, moved, name=f"{teacher.name}_of_the_next")
