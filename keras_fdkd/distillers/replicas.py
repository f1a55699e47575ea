"""How many replicas share a step: Keras's losses return their part of the batch's mean."""

import keras


def replicas() -> int:
    """Return the number of replicas of the current `tf.distribute` strategy, 1 elsewhere.

    TensorFlow sums the gradients of the replicas, so every `keras.losses.Loss` divides its value by
    their number there. What a Keras function returns must be divided too, and what is logged
    multiplied.
    """
    if keras.config.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync
