"""params.yaml: what is accepted, and that everything else is refused in one sentence that names the key."""

import os
from pathlib import Path

import pytest
import yaml

from stages.common.errors import InputError
from stages.common.settings import params

SHIPPED = Path(__file__).parents[3] / "params.yaml"
MISSING = object()


@pytest.fixture
def load(tmp_path, monkeypatch):
    """load({"train.lr": 0.1}): the shipped params with those changes, written as params.yaml and loaded."""
    monkeypatch.chdir(tmp_path)

    def load(changes):
        values = yaml.safe_load(SHIPPED.read_text())
        for place, value in changes.items():
            *above, key = place.split(".")
            section = values[above[0]] if above else values
            if value is MISSING:
                del section[key]
            else:
                section[key] = value
        Path("params.yaml").write_text(yaml.safe_dump(values))
        return params.load()

    return load


@pytest.fixture
def load_text(tmp_path, monkeypatch):
    """Loads a params.yaml of these bytes."""
    monkeypatch.chdir(tmp_path)

    def load_text(text):
        Path("params.yaml").write_bytes(text)
        return params.load()

    return load_text


def sentence(load, changes):
    """The message with which ``changes`` are refused."""
    with pytest.raises(InputError) as refused:
        load(changes)
    message = str(refused.value)
    assert "\n" not in message
    assert message.startswith("params.yaml")
    return message


def test_the_shipped_file_is_valid():
    loaded = params.load(SHIPPED)
    assert loaded.model_dump() == yaml.safe_load(SHIPPED.read_text())


def test_params_do_not_change_once_loaded(load):
    loaded = load({})
    with pytest.raises(ValueError, match="frozen"):
        loaded.train.lr = 1


@pytest.mark.parametrize(
    ("changes", "place", "value"),
    [
        ({"train.lr": "1e-3"}, "train.lr", 0.001),  # YAML 1.1 takes this for text
        ({"train.lr": "5E+0"}, "train.lr", 5),
        ({"train.lr": 1}, "train.lr", 1),
        ({"train.lr": [0.1, "1e-3"]}, "train.lr", [0.1, 0.001]),
        ({"train.lr": [0.1, "1e-3"]}, "train.rates", [0.1, 0.001]),
        ({"train.lr": 1}, "train.rates", [1]),
        ({"train.weight_decay": [0]}, "train.decays", [0]),
        ({"train.dropout": 0}, "train.dropout", 0),
        ({"train.weight_decay": 1e-4}, "train.weight_decay", 1e-4),
        ({"split.train": 0.5, "split.valid": 0.25, "split.test": 0.25}, "split.train", 0.5),
        ({"split.train": 1 / 3, "split.valid": 1 / 3, "split.test": 1 / 3}, "split.train", 1 / 3),
        ({"split.train": 0.7, "split.valid": 0.2, "split.test": 0.1}, "split.train", 0.7),  # not 1 in binary
        ({"split.train_per_class": 15}, "split.train_per_class", 15),
        ({"split.train_per_class": None}, "split.train_per_class", None),
        ({"split.seed": 2**31 - 1}, "split.seed", 2**31 - 1),
        ({"backbone.name": "vgg16", "backbone.cut": "conv"}, "backbone.cut", "conv"),
        ({"backbone.name": "vgg16", "backbone.cut": "fc6"}, "backbone.cut", "fc6"),
        ({"runtime.devices": "cpu"}, "runtime.devices", "cpu"),
        ({"runtime.devices": [0, 2]}, "runtime.devices", [0, 2]),
        ({"runtime.workers": 3}, "runtime.workers", 3),
        ({"runtime.cache": "off"}, "runtime.cache", "off"),
        ({"runtime.cache": False}, "runtime.cache", "off"),  # what YAML 1.1 makes of a plain off
        ({"runtime.cache": "/tmp/größe"}, "runtime.cache", "/tmp/größe"),
        ({"runtime.cache_gb": 0.5}, "runtime.cache_gb", 0.5),
        ({"runtime.cache_gb": "2e1"}, "runtime.cache_gb", 20),
        ({"dataset.name": "folder", "dataset.path": "/data/my photos"}, "dataset.path", "/data/my photos"),
    ],
    ids=str,
)
def test_is_accepted(load, changes, place, value):
    section, key = place.split(".")
    assert getattr(getattr(load(changes), section), key) == value


def test_an_unknown_key_is_refused_with_the_one_that_was_meant(load):
    assert sentence(load, {"trian": {}}) == "params.yaml: trian: no such key; did you mean train?"
    assert sentence(load, {"train.epcohs": 3}) == "params.yaml: train.epcohs: no such key; did you mean epochs?"


def test_an_unknown_key_like_no_other_is_refused_with_those_there_are(load):
    message = sentence(load, {"train.warmup": 3})
    assert message.startswith("params.yaml: train.warmup: no such key; there is optimizer, lr, weight_decay, ")
    message = sentence(load, {"zzz": 3})
    assert (
        message == "params.yaml: zzz: no such key; there is dataset, backbone, split, featurize, audit, train, runtime"
    )


@pytest.mark.parametrize("place", ["train", "train.lr", "runtime.devices", "split.seed"])
def test_a_missing_key_is_named(load, place):
    assert sentence(load, {place: MISSING}) == f"params.yaml: {place}: is missing"


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("place", "value", "wanted"),
    [
        ("train.lr", "fast", "must be a number; or must be a list"),
        ("train.lr", True, "must be a number; or must be a list"),
        ("train.lr", None, "must be a number; or must be a list"),
        ("train.lr", [], "must be a number; or must not be empty"),
        ("train.lr", [0.1, 0.1], "must be a number; or must be different numbers"),
        ("train.lr", [0.1, "1e-1"], "must be a number; or must be different numbers"),
        ("train.lr", [0.1, 0], "must be a number; or must be greater than 0"),
        ("train.weight_decay", [0, [1]], "must be a number"),
        ("train.lr", NAN, "must be a number; or must be a list"),
        ("train.lr", INF, "must be a number; or must be a list"),
        ("train.lr", "inf", "must be a number; or must be a list"),
        ("train.lr", "nan", "must be a number; or must be a list"),
        ("train.lr", 0, "must be greater than 0; or must be a list"),
        ("train.lr", -0.1, "must be greater than 0; or must be a list"),
        ("train.weight_decay", -0.1, "must be greater than or equal to 0; or must be a list"),
        ("train.lr", [0.001 * k for k in range(1, 102)], "must be a number; or must not be longer than 64 numbers"),
        ("train.lr", "1e-320", "must be 0 or between 1e-30 and 1e30 in size; or must be a list"),
        ("train.lr", 1e308, "must be 0 or between 1e-30 and 1e30 in size; or must be a list"),
        ("train.lr", 1e7, "must be less than or equal to 1000000; or must be a list"),
        ("train.weight_decay", 1e-320, "must be 0 or between 1e-30 and 1e30 in size; or must be a list"),
        ("train.weight_decay", 1e7, "must be less than or equal to 1000000; or must be a list"),
        ("train.batch_size", 10**20, "must be less than 2147483648"),
        ("train.dropout", 1, "must be less than 1"),
        ("train.dropout", -0.1, "must be greater than or equal to 0"),
        ("train.dropout", False, "must be a number"),
        ("train.epochs", 0, "must be greater than or equal to 1"),
        ("train.epochs", 2.5, "must be a whole number"),
        ("train.epochs", "3", "must be a whole number"),
        ("train.epochs", True, "must be a whole number"),
        ("train.batch_size", 0, "must be greater than or equal to 1"),
        ("train.seed", -1, "must be greater than or equal to 0"),
        ("train.seed", 2**31, "must be less than 2147483648"),
        ("train.optimizer", "Adam", "must be 'adam', 'sgd', 'nag', 'rmsprop' or 'adagrad'"),
        ("train", None, "must be keys with values"),
        ("train", [1], "must be keys with values"),
        ("train", "fast", "must be keys with values"),
        ("split.train", 0, "must be greater than 0"),
        ("split.test", 1.0, "must be less than 1"),
        ("split.valid", True, "must be a number"),
        ("split.train_per_class", 0, "must be greater than or equal to 1"),
        ("split.train_per_class", "few", "must be a whole number"),
        ("split.train_per_class", 1.5, "must be a whole number"),
        ("split.seed", True, "must be a whole number"),
        ("dataset.name", 256, "must be text"),
        ("dataset.on_bad_image", False, "must be 'fail' or 'skip'"),
        ("dataset.path", 3, "must be text"),
        ("dataset.path", "", "must not be empty"),
        ("backbone.name", 16, "must be text"),
        ("backbone.weights", "random", "must be 'pretrained' or 'file'"),
        ("backbone.path", None, "must be text"),
        ("backbone.cut", 7, "must be text"),
        ("featurize.resize", "stretch", "must be 'crop' or 'squash'"),
        ("featurize.precision", "float7", "must be "),
        ("featurize.dtype", "float64", "must be 'float16' or 'float32'"),
        ("runtime.devices", "tpu", "must be 'auto', 'cpu' or 'gpu'; or must be a list"),
        ("runtime.devices", 0, "must be 'auto', 'cpu' or 'gpu'; or must be a list"),
        ("runtime.devices", [], "must be 'auto', 'cpu' or 'gpu'; or must not be empty"),
        ("runtime.devices", [0, -1], "must be 'auto', 'cpu' or 'gpu'; or must be greater than or equal to 0"),
        ("runtime.devices", ["a", "b"], "must be 'auto', 'cpu' or 'gpu'; or must be a whole number"),
        ("runtime.devices", [True], "must be 'auto', 'cpu' or 'gpu'; or must be a whole number"),
        ("runtime.workers", 0, "must be 'auto'; or must be greater than or equal to 1"),
        ("runtime.workers", "many", "must be 'auto'; or must be a whole number"),
        ("runtime.batch_size", 2000, "must be less than or equal to 1024"),
        ("runtime.workers", 10**12, "must be 'auto'; or must be less than or equal to 1024"),
        ("runtime.devices", [0] * 65, "must be 'auto', 'cpu' or 'gpu'; or must not be longer than 64 numbers"),
        ("runtime.cache", True, "must be text"),
        ("runtime.cache", "a\0b", "must be text without control characters"),
        ("runtime.cache", "\x1b[31m", "must be text without control characters"),
        ("runtime.cache", "x" * 5000, "must not be longer than 4096 letters"),
        ("runtime.cache", "", "must not be empty"),
        ("runtime.cache_gb", "ten", "must be 'auto'; or must be a number"),
        ("runtime.cache_gb", "inf", "must be 'auto'; or must be a number"),
        ("runtime.cache_gb", "1e300", "must be 'auto'; or must be 0 or between 1e-30 and 1e30 in size"),
        ("runtime.cache_gb", 1e10, "must be 'auto'; or must be less than or equal to 1000000000"),
        ("runtime.cache_gb", 0, "must be 'auto'; or must be greater than 0"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_wrong_value_is_refused_with_what_it_must_be(load, place, value, wanted):
    message = sentence(load, {place: value})
    assert message.startswith(f"params.yaml: {place}: {wanted}")
    assert message.endswith(f"(got {value!r})") or len(repr(value)) > 80
    assert len(message) < 300


def test_fractions_must_add_up(load):
    message = sentence(load, {"split.train": 0.6})
    assert message == "params.yaml: split: train, valid and test must add up to 1 (they add up to 1.05)"


def test_several_mistakes_are_counted(load):
    message = sentence(load, {"split.seed": "a", "train.lr": MISSING})
    assert message.startswith("params.yaml: split.seed: ") and message.endswith(" (and 1 more key to mend)")
    message = sentence(load, {"split.seed": "a", "train.lr": MISSING, "zzz": 1})
    assert message.endswith(" (and 2 more keys to mend)")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (b"train: [1\nsplit", " at line 2: "),
        (b"train:\n\tlr: 1\n", " at line 2"),
        (b"train: {lr: 1}\n---\nsplit: {}\n", " at line 2"),
        (b"train: *other\n", " at line 1"),
        (b"train: !!python/object/apply:os.system [echo]\n", " at line 1"),
        (b"train: 2001-99-99\n", " at line 1: this is no timestamp"),
        (b"train: !!int x\n", " at line 1: this is no int"),
        (b"train: !!float x\n", " at line 1: this is no float"),
        (b"train: !!bool x\n", " at line 1: this is no bool"),
        (b"train: !!timestamp x\n", " at line 1: this is no timestamp"),
        (b"train: " + b"[" * 1000 + b"]" * 1000, ": its brackets or lines are nested too deep"),
        (b"train:\n  lr: 1\n  lr: 2\n", " at line 3: the key 'lr' is there twice: take one out"),
        (b"a: 1\nb: {c: {d: 1, 'd': 2}}\n", " at line 2: the key 'd' is there twice: take one out"),
        # Those of the next would be merged nine times nine times …
        (b"a: &a {x: 1}\nb: &b {<<: [*a, *a, *a]}\n", " at line 2: keys are not merged here (<<): write them out"),
        (b"train: \xff\n", ""),
        (b"train: \x00\n", ""),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_not_yaml_is_refused_with_the_line(load_text, text, place):
    assert sentence(load_text, text).startswith(f"params.yaml is not valid YAML{place}")


@pytest.mark.parametrize("text", [b"", b"# nothing\n", b"- train\n- split\n", b"train\n"], ids=str)
def test_a_file_without_keys_is_refused(load_text, text):
    assert sentence(load_text, text).startswith("params.yaml: the file: must be keys with values")


@pytest.mark.parametrize("digits", [b"9" * 5000, b"0x" + b"f" * 5000], ids=["decimal", "hexadecimal"])
def test_numbers_of_thousands_of_digits_are_refused(load_text, digits):
    message = sentence(load_text, SHIPPED.read_bytes().replace(b"epochs: 100", b"epochs: " + digits))
    assert "9" * 100 not in message and "f" * 100 not in message


def test_a_file_that_is_too_large_is_refused(load_text):
    message = sentence(load_text, SHIPPED.read_bytes() + b"#" * 28_000_000)
    assert message == "params.yaml has more than 100,000 bytes: take out what is no setting"


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_is_not_opened(tmp_path, monkeypatch, make):
    monkeypatch.chdir(tmp_path)
    make(Path("params.yaml"))
    with pytest.raises(InputError, match=r"^params.yaml is not a file: put a file there"):
        params.load()


def test_keys_that_are_no_text_are_refused(load_text):
    assert sentence(load_text, SHIPPED.read_bytes() + b"1: 2\n").startswith("params.yaml: 1: ")


def test_without_the_file_one_is_told_where_to_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="^there is no params.yaml here: run this from the root of the repository$"):
        params.load()


@pytest.mark.parametrize("address", ["auto", "local", "10.0.0.1:6379", "ray://head-1.example.org:10001", "[::1]:6379"])
def test_addresses_of_a_ray_cluster(load, address):
    assert load({"runtime.engine": "ray", "runtime.ray_address": address}).runtime.ray_address == address


@pytest.mark.parametrize("address", ["", "head", "http://head:80", "ray://head", "a b:1"])
def test_no_address_of_a_ray_cluster(load, address):
    assert "runtime.ray_address" in sentence(load, {"runtime.ray_address": address})


def test_a_cluster_hands_its_gpus_out_itself(load):
    assert "set devices to gpu" in sentence(load, {"runtime.engine": "ray", "runtime.devices": [0]})
