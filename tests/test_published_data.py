"""The paper's five data sets: lists, faults, arrays, preparation; from real files made here."""

import shutil

import h5py
import keras
import numpy as np
import published_trees as trees
import pytest
from PIL import Image
from scipy.io import loadmat, savemat

from recipes.ave.data import Ave
from recipes.crema_d.data import CremaD
from recipes.crisis_mmd.data import CrisisMmd, repaired
from recipes.nyu_depth.data import NyuDepth
from recipes.published import models
from recipes.published.command import parse, run_published
from recipes.published.models import COMPARED, picture_model, with_features
from recipes.published.prepare import check, open_store, prepare, usable
from recipes.published.store import BROKEN, DONE, WAITING
from recipes.vggsound.data import VggSound

KINDS = {kind.name: kind for kind in (CremaD, Ave, VggSound, CrisisMmd, NyuDepth)}
SMALL = (28, 28)


def items_of(listing, split):
    return [item for item in listing.items if item.split == split]


def prepared(data, folder, processes=1):
    store = open_store(data, folder / "prepared", data.listing())
    prepare(data, store, processes)
    return store


@pytest.mark.parametrize(
    ("name", "counts", "expected"),
    [
        ("crema_d", {"train": 9, "test": 3}, [
            "3 actors are in training and test: 1002, 1003, 1004",
        ]),
        ("ave", {"train": 8, "validation": 2, "test": 2}, [
            "1 lines of train are in test too, left out: -clip_10",
            "1 lines of train are repeated, left out: -clip_03",
            "1 lines have an unknown category, left out: trainSet.txt:11 Nothing&-clip_99",
        ]),
        ("vggsound", {"train": 8, "test": 2}, ["1 clips have no sound: id_3_000030"]),
        ("crisis_mmd", {"train": 10, "validation": 2, "test": 2}, ["Nothing is missing."]),
        ("nyu_depth", {"train": 8, "test": 2}, ["Nothing is missing."]),
    ],
)  # fmt: skip
def test_check_says_what_the_folder_holds(name, counts, expected, tmp_path, capsys):
    data = KINDS[name](trees.make_tree(name, tmp_path), SMALL)
    listing = data.listing()
    check(data, listing)
    said = capsys.readouterr().out
    assert listing.counts() == counts
    for split, count in counts.items():
        assert f"{split}: {count} samples (published: {data.published[split]})" in said
    assert f"{len(listing.classes)} classes" in said
    if name != "nyu_depth":  # Its labels are of pixels.
        [line] = [line for line in said.splitlines() if line.startswith(f"{len(listing.classes)} ")]
        per_class = [int(part.rsplit(" ", 1)[1]) for part in line.split("; ")]
        assert sum(per_class) == len(listing.items)
    for line in expected:
        assert line in said


def test_crema_d(tmp_path):
    data = CremaD(trees.crema_d(tmp_path), SMALL)
    listing = data.listing()
    first = listing.items[-9]
    assert (first.name, first.label, first.group) == ("1001_DFA_NEU_XX", 0, "1001")
    store = prepared(data, tmp_path)
    assert (store.state == DONE).all()
    assert store.array("audio").shape == (12, 257, 299)
    assert store.array("video").shape == (12, 3, 32, 32, 3)
    row = store.items.index(first)  # Its pictures are those of the video, which move.
    assert np.ptp(store.array("video")[row].astype(int), axis=0).max() > 50
    # A second of sound is repeated: the tone of 200 Hz is in bin 6 of 31.25 Hz each, throughout.
    assert (store.array("audio")[row].astype("float32").argmax(0) == 6).mean() > 0.95


def test_splits(tmp_path):
    data = CremaD(trees.crema_d(tmp_path), SMALL)
    items = data.listing().items
    [(train, chosen, test)] = data.split(items, "published", 1)
    assert sorted([*train, *chosen, *test]) == list(range(12))
    assert {items[row].split for row in test} == {"test"}
    assert {items[row].split for row in (*train, *chosen)} == {"train"}
    for folds in data.split(items, "group", 3):
        actors = [{items[row].group for row in fold} for fold in folds]
        assert not actors[0] & actors[1]
        assert not actors[0] & actors[2]
        assert not actors[1] & actors[2]


def test_faults_of_lists(tmp_path):
    root = trees.crema_d(tmp_path)
    with (root / "train.csv").open("a") as file:
        file.write("1001_DFA_NEU_XX,ANG\n1001_DFA_NEU_XX,NEU\nnonsense\n1001_DFA_JOY_XX,JOY\n\n")
    findings = CremaD(root, SMALL).listing().findings
    assert findings["lines have another emotion than their clip, left out"] == [
        "train.csv:10 1001_DFA_NEU_XX ANG"
    ]
    assert findings["clips are in the lists twice, left out of training"] == [
        "train.csv:11 1001_DFA_NEU_XX"
    ]
    assert len(findings["lines name no clip, left out"]) == 2


def test_ave(tmp_path):
    data = Ave(trees.ave(tmp_path), SMALL)
    store = prepared(data, tmp_path)
    assert (store.state == DONE).all()
    audio = store.array("audio").astype("float32")
    assert audio.shape == (12, 257, 1004)
    np.testing.assert_allclose(audio.mean((1, 2)), 0, atol=2e-2)
    np.testing.assert_allclose(audio.std((1, 2)), 1, atol=2e-2)
    names = {item.split: item.name for item in store.items}
    assert names == {"test": "-clip_11", "validation": "-clip_09", "train": "-clip_07"}
    [(train, chosen, test)] = data.split(store.items, "published", 1)
    assert [len(train), len(chosen), len(test)] == [8, 2, 2]


def test_vggsound(tmp_path):
    root = trees.vggsound(tmp_path)
    data = VggSound(root, SMALL)
    store = prepared(data, tmp_path)
    names = [item.name for item in store.items]
    assert [names[row] for row in np.flatnonzero(store.state == BROKEN)] == ["id_3_000030"]
    assert store.array("audio").shape == (10, 129, 1251)
    rows, findings = usable(store, 0.3)
    assert len(rows) == 9
    assert list(findings.lines()) == ["1 samples could not be read, left out: id_3_000030"]
    with pytest.raises(SystemExit, match="more than `--missing 0.05` allows"):
        usable(store, 0.05)
    assert items_of(data.listing(), "train")[0].label == 27  # "pigeon, dove cooing"
    # The official list has all classes and both splits in one file.
    lines = [(root / f"{split}_tiny.csv").read_text() for split in ("train", "test")]
    (root / "vggsound.csv").write_text("".join([*lines, "other,3,zebra braying,train\n"]))
    (root / "train_tiny.csv").unlink()
    (root / "test_tiny.csv").unlink()
    official = VggSound(root, SMALL).listing()
    assert official.items == data.listing().items
    assert not len(official.findings)


def test_crisis_mmd(tmp_path):
    root = trees.crisis_mmd(tmp_path)
    data = CrisisMmd(root, SMALL)
    items = data.listing().items
    texts = {item.name: item.details["text"] for item in items}
    assert texts["902_0"] == '"Help, he said'
    assert texts["901_0"] == "water in the café 1"
    assert [item.label for item in items[:2]] == [0, 4]
    trees.crisis_mmd(tmp_path, "informative")
    other = CrisisMmd(root, SMALL, task="informative")
    # The paper's figures are of the other task.
    assert (other.columns, other.notes[:-1]) == ({}, CrisisMmd.notes)
    assert "figures are left out" in other.notes[-1]
    assert CrisisMmd(root, SMALL).columns == CrisisMmd.columns
    informative = other.listing()
    assert list(informative.classes) == ["not_informative", "informative"]
    assert informative.items[1].label == 1
    with pytest.raises(ValueError, match="other lists or with other settings"):
        open_store(data, prepared(CrisisMmd(root, SMALL, "informative"), tmp_path).folder,
                   data.listing())  # fmt: skip


def test_nyu_depth_layouts_agree(tmp_path):
    whole = NyuDepth(trees.nyu_depth_file(tmp_path), (64, 96))
    folders = NyuDepth(trees.nyu_depth_folders(tmp_path), (64, 96))
    listed = {int(item.name): item for item in folders.listing().items}
    assert whole.listing().counts() == folders.listing().counts() == {"train": 8, "test": 2}
    rgb, depth, raw, mapping = trees._scenes(10, (64, 96))
    for item in whole.listing().items:
        number = item.details["row"]
        one, other = whole.decode(item), folders.decode(listed[number])
        assert listed[number].split == item.split
        np.testing.assert_array_equal(one["rgb"], rgb[number])
        assert np.abs(one["rgb"].astype(int) - other["rgb"]).mean() < 5
        for key in ("depth", "labels"):
            np.testing.assert_array_equal(one[key], other[key])
        np.testing.assert_array_equal(one["depth"][..., 0], depth[number])
        expected = np.where(raw[number] == 0, -1, mapping[raw[number].astype(int) - 1] - 1.0)
        np.testing.assert_array_equal(one["labels"], expected)
    assert loadmat(whole.root / "splits.mat")["testNdxs"].min() == 9  # It counts from 1.


def test_nyu_depth_is_resized(tmp_path):
    data = NyuDepth(trees.nyu_depth_folders(tmp_path), (32, 64))
    arrays = data.decode(data.listing().items[0])
    assert {key: values.shape for key, values in arrays.items()} == {
        "rgb": (32, 64, 3), "depth": (32, 64, 1), "labels": (32, 64),
    }  # fmt: skip
    assert set(np.unique(arrays["labels"])) <= set(range(-1, 40))  # No class in between.


@pytest.mark.parametrize("name", KINDS)
def test_roots_one_level_off_are_found(name, tmp_path):
    root = trees.make_tree(name, tmp_path / "above")
    inside = (
        next(path for path in sorted(root.iterdir()) if path.is_dir())
        if name != "nyu_depth"
        else root
    )
    for folder in (root, root.parent, inside):
        assert KINDS[name](folder, SMALL).root == root.resolve()
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"must hold .* Missing: .* There: nothing"):
        KINDS[name](tmp_path / "empty", SMALL)
    with pytest.raises(FileNotFoundError, match="`--data` must be a folder"):
        KINDS[name](tmp_path / "nowhere", SMALL)
    # From the command line it is a message, no traceback.
    with pytest.raises(SystemExit, match="`--data` must be a folder"):
        run_published(KINDS[name], "", ["--data", str(tmp_path / "nowhere"), "--check"])


def test_missing_list_and_broken_files(tmp_path):
    root = trees.crema_d(tmp_path)
    data = CremaD(root, SMALL)
    items = data.listing().items
    sounds, pictures = data.root / "AudioWAV", data.root / "Image-01-FPS"
    (sounds / f"{items[0].name}.wav").write_bytes(b"RIFF but no sound")
    (pictures / items[1].name / "00000.jpg").write_bytes(b"\xff\xd8 no picture")
    shutil.rmtree(pictures / items[2].name)
    for item, reason in zip(
        items, ("no sound that", "no picture that", "is not there"), strict=False
    ):
        with pytest.raises(ValueError, match=reason):
            data.decode(item)
    store = prepared(data, tmp_path)
    assert (store.state == BROKEN).sum() == 3
    (root / "test.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"Missing: test\.csv"):
        CremaD(root, SMALL)


def test_preparation_goes_on(tmp_path, monkeypatch):
    """What was read is not read again; what was broken is, once it is mended."""
    data = CremaD(trees.crema_d(tmp_path), SMALL)
    read, decode = [], CremaD.decode

    def counted(self, item):
        read.append(item.name)
        if len(read) == 4:
            raise KeyboardInterrupt
        return decode(self, item)

    monkeypatch.setattr(CremaD, "decode", counted)
    store = open_store(data, tmp_path / "prepared", data.listing())
    with pytest.raises(KeyboardInterrupt):
        prepare(data, store, 1)
    assert (store.state == DONE).sum() == 3
    with pytest.raises(SystemExit, match="9 of 12 samples were not prepared: run `prepare` first"):
        usable(store, 0.5)
    kept = np.array(store.array("audio")[:3])
    again = prepared(data, tmp_path)
    assert len(read) == 4 + 9
    assert (again.state == DONE).all()
    np.testing.assert_array_equal(again.array("audio")[:3], kept)
    assert WAITING not in again.state


def test_processes_read_the_same(tmp_path):
    data = CremaD(trees.crema_d(tmp_path), SMALL)
    one, two = prepared(data, tmp_path / "one"), prepared(data, tmp_path / "two", processes=2)
    for name in ("audio", "video", "state"):
        np.testing.assert_array_equal(one.array(name), two.array(name))


def test_options(capsys):
    options = parse(CremaD, "", ["--data", "there", "--directions", "video-audio"])
    assert (options.protocol, options.split, options.step) == ("ours", "published", "run")
    for wrong, said in (
        (["--directions", "video-text"], "--directions are audio-video and video-audio"),
        (["--student-backbone", "resnet_50"], "Backbones belong to one direction"),
    ):
        with pytest.raises(SystemExit):
            parse(CremaD, "", ["--data", "there", *wrong])
        assert said in capsys.readouterr().err
    with pytest.raises(SystemExit):
        parse(Ave, "", ["--data", "there", "--split", "group"])  # Its lists name no groups.


def test_picture_of_another_mode(tmp_path):
    """Grey and transparent pictures are read as colours."""
    root = trees.crema_d(tmp_path)
    data = CremaD(root, SMALL)
    item = data.listing().items[0]
    file = data.root / "Image-01-FPS" / item.name / "00000.jpg"
    Image.open(file).convert("L").save(file)
    pictures = data.decode(item)["video"]
    assert (pictures[0, ..., 0] == pictures[0, ..., 1]).all()


def test_models_are_those_of_keras_hub():
    keras_hub = pytest.importorskip("keras_hub", reason="`nox -s hub` installs it")
    from recipes.published.backbones import image_backbone, without_activation

    presets = keras_hub.models.ResNetBackbone.presets | keras_hub.models.MobileNetBackbone.presets
    for name, preset in (
        ("resnet_18", "resnet_18_imagenet"), ("resnet_50", "resnet_50_imagenet"),
        ("mobilenet_v3_small", "mobilenet_v3_small_100_imagenet"),
    ):  # fmt: skip
        expected = presets[preset]["metadata"]["params"]
        assert image_backbone(name, (64, 64, 3)).count_params() == expected
    backbone = image_backbone("resnet_18", (32, 32, 3))
    inner, activation = without_activation(backbone)
    pictures = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
    before = keras.ops.convert_to_numpy(inner(pictures))
    assert before.min() < 0
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(activation(before)),
        keras.ops.convert_to_numpy(backbone(pictures)),
        rtol=1e-5, atol=1e-5,
    )  # fmt: skip
    model = picture_model((2, 40, 40, 3), (32, 32), 3, "resnet_18")
    outputs = with_features(model)(np.zeros((2, 2, 40, 40, 3), "uint8"))
    assert outputs["features"].shape == (2, 512)


def small_backbone(name, shape):
    inputs = keras.Input(shape)
    x = keras.layers.Conv2D(6, 3, strides=4)(inputs)
    return keras.Model(inputs, keras.layers.ReLU()(keras.layers.BatchNormalization()(x)))


def test_a_model_of_several_pictures_is_the_mean_over_them(monkeypatch):
    monkeypatch.setattr(models, "image_backbone", small_backbone)
    one, three = (picture_model((3, 40, 40, 3), (32, 32), 4, "", seen) for seen in (1, 3))
    three.set_weights(one.get_weights())
    pictures = np.random.default_rng(0).integers(256, size=(5, 3, 40, 40, 3)).astype("uint8")
    found = with_features(three).predict(pictures, batch_size=2, verbose=0)  # The last is smaller.
    middle = with_features(one)
    frames = [pictures[:, [n] * 3] for n in range(3)]
    each = [middle.predict(frame, batch_size=2, verbose=0) for frame in frames]
    for name, size in (("features", 6), ("logits", 4)):
        mean = np.mean([outputs[name] for outputs in each], axis=0)
        assert found[name].shape == (5, size)
        np.testing.assert_allclose(found[name], mean, rtol=1e-4, atol=1e-4)
    changed = pictures.copy()
    changed[:, [0, 2]] = 255 - changed[:, [0, 2]]
    assert (np.abs(three.predict(changed, verbose=0) - found["logits"]).max(1) > 1e-3).all()
    # Two of three: any neighbours while training, else the first two.
    two = picture_model((3, 40, 40, 3), (32, 32), 4, "", 2)
    assert two.get_layer(COMPARED).output.shape == (None, 2 * 8, 8, 6)
    two.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    history = two.fit(pictures, np.arange(5) % 4, batch_size=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()


def test_how_many_pictures_of_a_clip_are_seen(tmp_path, monkeypatch):
    """As published: all three of VGGSound, one of the others."""
    assert (VggSound.seen, Ave.seen, CremaD.seen) == (3, 1, 1)
    monkeypatch.setattr(models, "image_backbone", small_backbone)
    for kind, rows in ((VggSound, 3 * 7), (CremaD, 7)):
        model = kind(trees.make_tree(kind.name, tmp_path), SMALL).build("video", "", 2)
        assert model.get_layer(COMPARED).output.shape == (None, rows, 7, 6)


def rewrite(file, changes):
    """Replace lines of a list, by their number from 0."""
    lines = file.read_text(encoding="utf-8").splitlines()
    for number, line in changes.items():
        lines[number] = line(lines[number]) if callable(line) else line
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_a_span_without_an_end(tmp_path):
    root = trees.ave(tmp_path)
    rewrite(root / "trainSet.txt", {0: lambda line: line[: line.rindex("&") + 1]})
    listing = Ave(root, SMALL).listing()
    assert any("cannot be read, left out: trainSet.txt:1" in one for one in
               listing.findings.lines())  # fmt: skip
    assert listing.counts()["train"] == 7


def test_a_tweet_in_two_lists_is_left_out_of_training(tmp_path):
    root = trees.crisis_mmd(tmp_path)
    folder = root / "crisismmd_datasplit_agreed_label"
    file = folder / "task_humanitarian_text_img_agreed_lab_train.tsv"
    rewrite(file, {1: lambda line: line.replace("\t900\t", "\t9012\t")})
    listing = CrisisMmd(root, SMALL).listing()
    assert listing.counts() == {"train": 9, "validation": 2, "test": 2}
    [told] = listing.findings.lines()
    assert "tweets are in two lists, left out of one" in told
    assert "900_0" in told


@pytest.mark.parametrize("text", ["", "tweet_id\timage_id\n"])
def test_a_list_without_its_columns(text, tmp_path):
    root = trees.crisis_mmd(tmp_path)
    folder = root / "crisismmd_datasplit_agreed_label"
    (folder / "task_humanitarian_text_img_agreed_lab_dev.tsv").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="lab_dev.tsv must name the columns .*'tweet_text'"):
        CrisisMmd(root, SMALL).listing()


@pytest.mark.parametrize("kind", ["empty distances", "distances of NaN", "broken labels"])
def test_a_broken_scene_stops_no_other(kind, tmp_path):
    data = NyuDepth(trees.nyu_depth_folders(tmp_path), (64, 96))
    item = data.listing().items[0]
    if kind == "empty distances":
        (data.root / "Depth" / f"{item.name}.npy").write_bytes(b"")
    elif kind == "distances of NaN":
        depth = np.load(data.root / "Depth" / f"{item.name}.npy")
        depth[3, 4] = np.nan
        np.save(data.root / "Depth" / f"{item.name}.npy", depth)
    else:
        file = data.root / item.details["label"]
        whole = file.read_bytes()
        file.write_bytes(whole[:40] + bytes(len(whole) - 40))
    store = prepared(data, tmp_path)
    assert (store.state == BROKEN).sum() == 1
    assert store.state[0] == BROKEN


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252"])
@pytest.mark.parametrize("text", ["5 \u20ac", "It\u2019s a fire", "caf\u00e9 \U0001f525"])
def test_texts_that_were_encoded_twice(text, encoding):
    try:
        broken = text.encode("utf-8").decode(encoding)
    except UnicodeError:
        pytest.skip("has no character for one of the bytes")
    assert broken != text
    assert repaired(broken) == text
    assert repaired(text) == text
    # What follows does not matter, nor is it changed.
    assert repaired(f"{broken} \U0001f30a") == f"{text} \U0001f30a"


def test_scenes_that_are_not_there_are_left_out(tmp_path):
    root = trees.nyu_depth_file(tmp_path)
    before = len(NyuDepth(root, (64, 96)).listing().items)
    splits = loadmat(root / "splits.mat")
    numbers = {name: splits[name].copy() for name in ("trainNdxs", "testNdxs")}
    numbers["trainNdxs"].flat[0] = 99
    savemat(root / "splits.mat", numbers)
    listing = NyuDepth(root, (64, 96)).listing()
    assert len(listing.items) == before - 1
    assert any("are not among the" in line and "0098" in line for line in listing.findings.lines())


def test_raw_labels_without_a_class(tmp_path):
    data = NyuDepth(trees.nyu_depth_file(tmp_path), (64, 96))
    item = data.listing().items[0]
    with h5py.File(data.root / "nyu_depth_v2_labeled.mat", "r+") as file:
        file["labels"][item.details["row"]] = 60_000
    with pytest.raises(ValueError, match=f"Scene {item.name} .* cannot be read"):
        data.decode(item)
