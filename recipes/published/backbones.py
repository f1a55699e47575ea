"""KerasHub's backbones by name: architectures without weights, presets, and local folders."""

import functools
from typing import Any

import keras
from keras import ops

# KerasHub has these numbers in its presets alone, and would download one to read them.
_RESNET: dict[str, Any] = {
    "input_conv_filters": [64],
    "input_conv_kernel_sizes": [7],
    "stackwise_num_filters": [64, 128, 256, 512],
    "stackwise_num_strides": [1, 2, 2, 2],
}
_RESNETS = {
    "resnet_18": {"stackwise_num_blocks": [2, 2, 2, 2], "block_type": "basic_block"},
    "resnet_50": {"stackwise_num_blocks": [3, 4, 6, 3], "block_type": "bottleneck_block"},
}
_HARD, _SE = "hard_swish", 0.25
_MOBILENET_V3_SMALL: dict[str, Any] = {
    "stackwise_num_blocks": [2, 3, 2, 3],
    "stackwise_expansion": [[72, 88], [96, 240, 240], [120, 144], [288, 576, 576]],
    "stackwise_num_filters": [[24, 24], [40, 40, 40], [48, 48], [96, 96, 96]],
    "stackwise_kernel_size": [[3, 3], [5, 5, 5], [5, 5], [5, 5, 5]],
    "stackwise_padding": [[1, 1], [2, 2, 2], [2, 2], [2, 2, 2]],
    "stackwise_num_strides": [[2, 1], [2, 1, 1], [1, 1], [2, 1, 1]],
    "stackwise_se_ratio": [[None, None], [_SE] * 3, [_SE] * 2, [_SE] * 3],
    "stackwise_activation": [["relu"] * 2, [_HARD] * 3, [_HARD] * 2, [_HARD] * 3],
    "output_num_filters": 1024,
    "input_num_filters": 16,
    "depthwise_filters": 16,
    "depthwise_stride": 2,
    "depthwise_residual": False,
    "squeeze_and_excite": _SE,
    "last_layer_filter": 576,
}
#: Without pretrained weights; any other name is a preset of KerasHub or a local folder.
ARCHITECTURES = (*_RESNETS, "mobilenet_v3_small")
_ENCODED = "encoder_sequence_output"


def image_backbone(name: str, shape: tuple[int, int, int]) -> keras.Model:
    """Return a backbone for pictures.

    Args:
        name: One of `ARCHITECTURES`, the name of a preset, or the folder of one.
        shape: Of a picture. A preset decides by itself how many channels it takes.
    """
    # Imported in functions: `--check` and `prepare` run without KerasHub, which is an extra.
    import keras_hub

    if name in _RESNETS:
        return keras_hub.models.ResNetBackbone(**_RESNET, **_RESNETS[name], image_shape=shape)
    if name == "mobilenet_v3_small":
        return keras_hub.models.MobileNetBackbone(**_MOBILENET_V3_SMALL, image_shape=shape)
    return keras_hub.models.Backbone.from_preset(name, image_shape=(*shape[:2], 3))


def text_backbone(name: str) -> keras.Model:
    """Return a backbone for texts, of a preset or the folder of one."""
    import keras_hub

    return keras_hub.models.Backbone.from_preset(name)


# Cached, since `_heard` of `clip_data` asks for it in every batch.
@functools.lru_cache(maxsize=2)
def sound_converter(name: str) -> keras.Layer | None:
    """Return what turns waveforms into the inputs of an audio backbone; `None` for any other.

    Args:
        name: See `image_backbone`.
    """
    import keras_hub

    if name in ARCHITECTURES:
        return None
    try:
        return keras_hub.layers.AudioConverter.from_preset(name)
    except ValueError:  # KerasHub has no such layer for this kind of backbone.
        return None


def sound_encoder(name: str) -> tuple[keras.Model, list[str]]:
    """Return the encoder of an audio backbone, and the names of its inputs.

    Args:
        name: Preset, or the folder of one: Whisper, Moonshine.

    Raises:
        ValueError: If the backbone has no encoder of sounds.
    """
    import keras_hub

    whole = keras_hub.models.Backbone.from_preset(name)
    outputs = whole.output if isinstance(whole.output, dict) else {}
    if _ENCODED not in outputs:
        raise ValueError(
            f"'{name}' must be an audio backbone with an encoder, such as Whisper or Moonshine. "
            f"Received: {type(whole).__name__}, whose outputs are {sorted(outputs)}."
        )
    # Without the decoder, which would want tokens of a text.
    inputs = {key: one for key, one in whole.input.items() if key.startswith("encoder")}
    encoder = keras.Model(inputs, outputs[_ENCODED], name=whole.name)
    return encoder, list(inputs)


def text_inputs(name: str, texts: list[str], length: int) -> dict[str, Any]:
    """Return what a text backbone sees: arrays of shape `(texts, length)` by name.

    Args:
        name: Preset, or the folder of one, with its tokenizer.
        texts: To tokenize.
        length: Tokens of each, padded or cut.
    """
    import keras_hub

    preprocessor = keras_hub.models.TextClassifierPreprocessor.from_preset(
        name, sequence_length=length
    )
    tokens = preprocessor(texts)
    arrays = tokens if isinstance(tokens, dict) else {"token_ids": tokens}
    return {key: ops.convert_to_numpy(values) for key, values in arrays.items()}


def without_activation(backbone: keras.Model) -> tuple[keras.Model, keras.Layer | None]:
    """Return a backbone without its last activation, and that one.

    Where the last layer does more than activate, the backbone stays whole, with `None`.
    """
    # Operations are sorted by depth, so the one that makes the output is the last.
    last = backbone.operations[-1]
    if not isinstance(last, (keras.layers.Activation, keras.layers.ReLU)):
        return backbone, None
    activation = type(last).from_config(last.get_config())
    return keras.Model(backbone.input, last.input, name=backbone.name), activation
