"""EfficientNet-Lite0 of ImageNet as a Keras model, with the weights of a PyTorch file.

Tan and Le, "EfficientNet: Rethinking model scaling for convolutional neural networks", ICML 2019;
the Lite models leave out squeeze-and-excitation and use ReLU6.
"""

from pathlib import Path
from typing import Any

import keras
import numpy as np

# A layer's name in KerasHub, without its block, and in the file.
LAYERS = {
    "stem_conv": "_conv_stem",
    "stem_bn": "_bn0",
    "expand_conv": "_expand_conv",
    "expand_bn": "_bn0",
    "dwconv": "_depthwise_conv",
    "dwconv2": "_depthwise_conv",
    "dwconv_bn": "_bn1",
    "bn": "_bn1",
    "project": "_project_conv",
    "project_conv": "_project_conv",
    "project_bn": "_bn2",
    "top_conv": "_conv_head",
    "top_bn": "_bn1",
}
VALUES = {
    "kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def read_torch(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a PyTorch state dict.

    Raises:
        ImportError: If PyTorch is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            "PyTorch is needed to read the pretrained weights, whichever backend Keras runs on. "
            "Run `pip install torch`."
        ) from error
    # `weights_only`: a pickle may run code, and this one may hold tensors alone.
    state = torch.load(path, map_location="cpu", weights_only=True)
    return {name: value.numpy() for name, value in state.items()}


def efficientnet_lite0(state: dict[str, np.ndarray], keras_hub: Any) -> keras.Model:
    """Return the model from RGB pictures of any size, 0 to 255, to 1280 pooled features.

    Args:
        state: The arrays of the file; the classifier `_fc` is left out.
        keras_hub: The imported package.

    Raises:
        ValueError: If the arrays are not those of EfficientNet-Lite0.
    """
    backbone = keras_hub.models.EfficientNetBackbone(
        stackwise_width_coefficients=[1.0] * 7,
        stackwise_depth_coefficients=[1.0] * 7,
        stackwise_kernel_sizes=[3, 3, 5, 3, 5, 5, 3],
        stackwise_num_repeats=[1, 2, 2, 3, 3, 4, 1],
        stackwise_input_filters=[32, 16, 24, 40, 80, 112, 192],
        stackwise_output_filters=[16, 24, 40, 80, 112, 192, 320],
        stackwise_expansion_ratios=[1, 6, 6, 6, 6, 6, 6],
        stackwise_squeeze_and_excite_ratios=[0.0] * 7,
        stackwise_strides=[1, 2, 2, 2, 1, 2, 1],
        # Of KerasHub's blocks, `unfused` pads strided convolutions as TensorFlow does, where these
        # weights come from; for the first stack `v1` alone projects by a 1x1 convolution.
        stackwise_block_types=["v1"] + ["unfused"] * 6,
        include_stem_padding=False,
        stem_conv_padding="same",
        activation="relu6",
        batch_norm_epsilon=1e-3,
        dropout=0.0,
    )
    _fill(backbone, state)
    inputs = keras.Input((None, None, 3))
    # (x - 127) / 128, as the weights were trained.
    x = backbone(keras.layers.Rescaling(1 / 128, -127 / 128)(inputs))
    outputs = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, outputs, name="efficientnet_lite0")


def _fill(backbone: keras.Model, state: dict[str, np.ndarray]) -> None:
    # PyTorch counts the batches of each normalization; Keras has no such variable.
    left = {n for n in state if not n.startswith("_fc.") and not n.endswith("num_batches_tracked")}
    blocks: dict[str, int] = {}  # "2a", "2b", ... are numbered through in the file.
    for variable in backbone.variables:
        layer, kind = variable.path.split("/")[-2:]
        prefix = ""
        if layer.startswith("block"):
            block, _, layer = layer.removeprefix("block").partition("_")
            prefix = f"_blocks.{blocks.setdefault(block, len(blocks))}."
        name = f"{prefix}{LAYERS[layer]}.{VALUES[kind]}"
        if name not in left:
            raise ValueError(f"The weights must be those of EfficientNet-Lite0. Missing: {name}.")
        left.remove(name)
        value = state[name]
        if kind == "kernel":  # Depthwise: (channels, 1, height, width); else (out, in, ...).
            depthwise = layer.startswith("dwconv")
            value = value.transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))
        variable.assign(value)
    # A wrong name in `LAYERS` would leave arrays unused.
    if left:
        raise ValueError(f"The weights must be those of EfficientNet-Lite0. Too many: {left}.")
