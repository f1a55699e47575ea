"""Audio backbones of KerasHub in the recipes of clips: they hear the sound itself."""

import keras
import numpy as np
import published_trees as trees
import pytest

from keras_fdkd.study import Results
from recipes.crema_d.__main__ import main
from recipes.crema_d.data import CremaD
from recipes.published.backbones import sound_converter, sound_encoder
from recipes.published.models import heard_model
from recipes.published.prepare import open_store, prepare

keras_hub = pytest.importorskip("keras_hub", reason="`nox -s hub` installs it")
SMALL = (28, 28)


@pytest.fixture(scope="module")
def sound_presets(tmp_path_factory):
    """Folders of small backbones and the layers that read sounds for them."""
    folder = tmp_path_factory.mktemp("presets")
    models, layers = keras_hub.models, keras_hub.layers
    made = {
        "whisper": (
            models.WhisperBackbone(
                vocabulary_size=8, num_layers=1, num_heads=2, hidden_dim=16, intermediate_dim=16,
                max_encoder_sequence_length=100, max_decoder_sequence_length=4,
            ),
            layers.WhisperAudioConverter(max_audio_length=1),
        ),
        "moonshine": (
            models.MoonshineBackbone(
                vocabulary_size=8, filter_dim=16, encoder_num_layers=1, decoder_num_layers=1,
                hidden_dim=16, intermediate_dim=16, encoder_num_heads=2, decoder_num_heads=2,
            ),
            layers.MoonshineAudioConverter(),
        ),
    }  # fmt: skip
    for name, (backbone, converter) in made.items():
        backbone.save_to_preset(str(folder / name))
        converter.save_to_preset(str(folder / name))
    return folder


@pytest.mark.parametrize("kind", ["whisper", "moonshine"])
def test_audio_backbones_hear_the_sound(kind, sound_presets):
    name = str(sound_presets / kind)
    waves = np.random.default_rng(0).normal(size=(2, 16000)).astype("float32")
    heard = keras.ops.convert_to_numpy(sound_converter(name)(waves))
    model = heard_model(16000, 3, name)
    assert model(heard).shape == (2, 3)
    # The mean over time of the whole backbone's encoder is what the head sees.
    whole = keras_hub.models.Backbone.from_preset(name)
    given = {key: np.ones((2, 4), "int32") for key in whole.input if key.startswith("decoder")}
    features = next(key for key in whole.input if key[:7] == "encoder" and key[-4:] != "mask")
    given |= {features: heard}
    if "encoder_padding_mask" in whole.input:
        given["encoder_padding_mask"] = np.ones(heard.shape[:2], bool)
    expected = keras.ops.convert_to_numpy(whole(given)["encoder_sequence_output"]).mean(1)
    view = keras.Model(model.input, model.get_layer("pooled").output)
    np.testing.assert_allclose(view.predict(heard, verbose=0), expected, rtol=1e-4, atol=1e-5)


def test_silence_that_fills_the_window_is_left_out(sound_presets):
    """A clip of half the window: the mean is over the first half of the encoder's steps."""
    name = str(sound_presets / "whisper")
    waves = np.random.default_rng(0).normal(size=(2, 8000)).astype("float32")
    heard = keras.ops.convert_to_numpy(sound_converter(name)(waves))
    assert heard.shape == (2, 100, 80)
    model = heard_model(8000, 3, name)
    encoder, _ = sound_encoder(name)
    steps = keras.ops.convert_to_numpy(encoder({"encoder_features": heard}))
    assert steps.shape[1] == 50
    view = keras.Model(model.input, model.get_layer("pooled").output)
    np.testing.assert_allclose(
        view.predict(heard, verbose=0), steps[:, :25].mean(1), rtol=1e-4, atol=1e-5
    )


def test_other_backbones_hear_no_sound(sound_presets, tmp_path):
    assert sound_converter("resnet_18") is None
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=8, num_layers=1, num_heads=2, hidden_dim=16, intermediate_dim=16
    )
    backbone.save_to_preset(str(tmp_path))
    assert sound_converter(str(tmp_path)) is None
    with pytest.raises(ValueError, match="must be an audio backbone.*BertBackbone"):
        sound_encoder(str(tmp_path))


def test_waveforms_are_the_sounds(tmp_path):
    """As the files hold them, and the spectrograms stay as they are."""
    data = CremaD(trees.crema_d(tmp_path), SMALL)
    store = open_store(data, tmp_path / "plain", data.listing())
    prepare(data, store, 1)
    with_sound = CremaD(data.root, SMALL, waveforms=True)
    kept = open_store(with_sound, tmp_path / "kept", data.listing())
    prepare(with_sound, kept, 1)
    np.testing.assert_array_equal(kept.array("audio"), store.array("audio"))
    waves = kept.array("waveform")
    assert waves.shape == (12, 48000)
    assert waves.dtype == "int16"
    row = next(n for n, item in enumerate(kept.items) if item.name == "1001_DFA_NEU_XX")
    spectrum = np.abs(np.fft.rfft(waves[row].astype(float)))
    assert spectrum.argmax() == 200 * 3  # 200 Hz, three seconds


def test_a_voice_teaches_a_face(sound_presets, tmp_path):
    root = trees.crema_d(tmp_path)
    given = ["--data", root, "--prepared", tmp_path / "prepared", "--output", tmp_path / "out",
             "--processes", 1, "--epochs", 1, "--batch-size", 4, "--trials", 1, "--methods",
             "fdcmkd", "--picture-size", 28, "--directions", "audio-video",
             "--teacher-backbone", sound_presets / "whisper"]  # fmt: skip
    given = list(map(str, given))
    main(["prepare", *given])
    with pytest.raises(SystemExit, match="prepare and run with --waveforms"):
        main(given)
    given[given.index(str(tmp_path / "prepared"))] = str(tmp_path / "with_sound")
    main(["prepare", *given, "--waveforms"])
    main([*given, "--waveforms"])
    found = Results.load(tmp_path / "out" / "studies" / "audio-video-ours")
    assert not found.failures
    assert found.runs("fdcmkd", None)
