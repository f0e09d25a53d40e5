"""The backbones against plain NumPy (`tests/reference.py`), against their published facts, and cut in two.

Every step between an image file and its feature is the real one: decoding, pixels, normalising, the weights file,
the cut, the compiled graph. The reference gets the same pixels, the published mean and standard deviation, and the
tensors as they are in the file.
"""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import skimage.data

from stages.backbones import zoo
from stages.backbones.catalogue import BACKBONES
from stages.backbones.families import table
from stages.backend.mx import mx
from stages.checkpoints import matching
from stages.checkpoints.read import read
from stages.common.disk.files import sha256
from stages.common.errors import InputError
from stages.dataset.sources.files.decode import decode
from stages.inference.compile import compiled
from stages.preprocessing import pixels
from tests import reference
from tests.conftest import BACKBONE

# Photos that are part of scikit-image's wheel: a cat, a cup of espresso, a rocket on its launch pad.
PHOTOS = ("chelsea.png", "coffee.png", "rocket.jpg")

# Of the largest feature. Float32 rounding alone is about 2e-6, a half-precision one 5e-4 of each feature.
FLOAT32_ERROR = 1e-5
FLOAT16_ERROR = 1e-3

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
INCEPTION = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
OPENAI = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))

# Input size, what the image's shorter side is resized to before that is cropped, (mean, std), interpolation.
# ViT: timm's vit_*_patch16_224.augreg_in21k_ft_in1k, crop_pct 0.9. DINOv2: make_classification_eval_transform in its
# repository. CLIP: preprocess_cfg of OpenCLIP's vision towers.
# EfficientNet-Lite: timm's tf_efficientnet_lite*, crop_pct 0.875, 0.882, 0.890. All others: GluonCV's
# verify_pretrained.py; an input of another size than 224 is cropped from ceil(size / 0.875). torchvision's: the
# transforms of its `IMAGENET1K_V1` weights. timm's: `default_cfg`, the shorter side to floor(size / crop_pct).
ZOO = (224, 256, IMAGENET, "bilinear")
PREPROCESSING = {
    "efficientnet_lite0": (224, 256, INCEPTION, "bicubic"),
    "efficientnet_lite1": (240, 272, INCEPTION, "bicubic"),
    "efficientnet_lite2": (260, 292, INCEPTION, "bicubic"),
    "inceptionv3": (299, 342, IMAGENET, "bilinear"),
    **dict.fromkeys(
        ("mobilenetv3_large_100", "efficientnet_b0", "efficientnet_b1.ft_in1k", "tf_efficientnet_b0"),
        (224, 256, IMAGENET, "bicubic"),
    ),
    "efficientnet_b1": (240, 266, INCEPTION, "bicubic"),
    "efficientnet_b2": (256, 292, IMAGENET, "bicubic"),
    "tf_efficientnet_b1": (240, 272, IMAGENET, "bicubic"),
    "tf_efficientnet_b2": (260, 292, IMAGENET, "bicubic"),
    "convnext_tiny": (224, 235, IMAGENET, "bicubic"),
    "convnext_small": (224, 235, IMAGENET, "bicubic"),
    **{f"vit_{size}_patch16_224": (224, 248, INCEPTION, "bicubic") for size in ("small", "base")},
    **{
        f"vit_{size}_patch14_{registers}dinov2": (224, 256, IMAGENET, "bicubic")
        for size in ("small", "base")
        for registers in ("", "reg4_")
    },
    **{
        f"clip_vit_b{patch}{activation}": (224, 224, OPENAI, "bicubic")
        for patch in (16, 32)
        for activation in ("", "_quickgelu")
    },
}

# Width of the layer before the classifier, and of the flattened maps before the first dense layer.
WIDTHS = {
    "efficientnet_lite0": 1280, "efficientnet_lite1": 1280, "efficientnet_lite2": 1280,
    "densenet121": 1024, "densenet161": 2208, "densenet169": 1664, "densenet201": 1920,
    "mobilenet0.25": 256, "mobilenet0.5": 512, "mobilenet0.75": 768, "mobilenet1.0": 1024,
    "mobilenetv2_0.25": 1280, "mobilenetv2_0.5": 1280, "mobilenetv2_0.75": 1280, "mobilenetv2_1.0": 1280,
    "resnet18_v1": 512, "resnet34_v1": 512, "resnet50_v1": 2048, "resnet101_v1": 2048, "resnet152_v1": 2048,
    "resnet18_v2": 512, "resnet34_v2": 512, "resnet50_v2": 2048, "resnet101_v2": 2048, "resnet152_v2": 2048,
    "squeezenet1.0": 512, "squeezenet1.1": 512,
    "inceptionv3": 2048,
    "resnet18": 512, "resnet34": 512, "resnet50": 2048, "resnet101": 2048, "wide_resnet50_2": 2048,
    "efficientnet_b0": 1280, "efficientnet_b1": 1280, "efficientnet_b1.ft_in1k": 1280, "efficientnet_b2": 1408,
    "tf_efficientnet_b0": 1280, "tf_efficientnet_b1": 1280, "tf_efficientnet_b2": 1408,
    "mobilenet_v3_large": 1280, "mobilenetv3_large_100": 1280, "convnext_tiny": 768, "convnext_small": 768,
    "vit_small_patch16_224": 384, "vit_base_patch16_224": 768,
    "vit_small_patch14_dinov2": 384, "vit_base_patch14_dinov2": 768,
    "vit_small_patch14_reg4_dinov2": 384, "vit_base_patch14_reg4_dinov2": 768,
    "clip_vit_b16": 512, "clip_vit_b32": 512, "clip_vit_b16_quickgelu": 512, "clip_vit_b32_quickgelu": 512,
}  # fmt: skip
WITH_DROPOUT = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2", "inceptionv3",
                "squeezenet1.0", "squeezenet1.1")  # fmt: skip
WITH_DENSE = ("alexnet", "vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn")


def photos(name):
    """The photos as the backbone ``name`` gets them: uint8 (3, size, size, 3)."""
    folder = Path(skimage.data.__file__).parent
    images = [decode((folder / photo).read_bytes(), photo) for photo in PHOTOS]
    return np.stack([pixels.pixels(image, BACKBONES[name], "crop") for image in images])


def loaded(name, tensors, path="weights"):
    """The network called ``name`` with the ``tensors`` of a weights file, as the weights stage would leave it."""
    return zoo.filled(name, matching.for_network(name, tensors, path))


def initialised(name):
    """The network called ``name`` with random weights."""
    mx.random.seed(5)
    network = zoo.build(name)
    network.initialize(mx.init.Xavier())
    return network


def features(name, network, cut, images):
    """What the pipeline computes for ``images`` (uint8), as ``name``'s preprocessing leaves them."""
    batch = pixels.normalise(images, BACKBONES[name])
    return compiled(zoo.body(network, cut), batch.shape)(batch).asnumpy()


def assert_close(computed, expected, tolerance):
    """Holds every number of ``computed`` to ``expected``, by the share of the largest one."""
    error = np.abs(computed - expected).max() / np.abs(expected).max()
    cosine = (computed * expected).sum() / np.sqrt((expected**2).sum() * (computed.astype(float) ** 2).sum())
    assert error <= tolerance, f"relative error {error:.1e}, cosine {cosine:.9f}"


def assert_same_features(computed, expected):
    assert computed.dtype == np.float32
    assert_close(computed, expected, FLOAT32_ERROR)
    # As they are stored.
    assert_close(computed.astype(np.float16), expected, FLOAT16_ERROR)


# --- EfficientNet-Lite -----------------------------------------------------------------------------------------------


@cache
def lite(number):
    """(name, network, photos' pixels, reference features, reference logits) of the published EfficientNet-Lite."""
    name = f"efficientnet_lite{number}"
    path, _ = table.of(name).published(name)
    tensors = read(path)
    images = photos(name)
    answers = [reference.efficientnet_lite(number, tensors, reference.normalise(image, *INCEPTION)) for image in images]
    return name, loaded(name, tensors, path), images, *map(np.stack, zip(*answers))


@pytest.mark.xdist_group("lite")
@pytest.mark.parametrize("number", [0, 1, 2])
def test_features_of_efficientnet_lite_are_those_of_its_definition(number):
    name, network, images, expected, _ = lite(number)
    computed = features(name, network, "pool", images)
    for ours, theirs in zip(computed, expected):
        assert_same_features(ours, theirs)


@pytest.mark.xdist_group("lite")
@pytest.mark.parametrize("number", [0, 1, 2])
def test_efficientnet_lite_with_its_own_output_names_everyday_photos(number):
    name, network, images, _, expected = lite(number)
    logits = network(mx.nd.array(pixels.normalise(images, BACKBONES[name]))).asnumpy()
    assert_close(logits, expected, FLOAT32_ERROR)
    cat, coffee, rocket = np.argsort(-logits)[:, :5].tolist()
    # Tabby, tiger cat and Egyptian cat; then, with a hundredth of their probability, a lynx.
    assert set(cat[:3]) == {281, 282, 285} and cat[3] == 287
    # Espresso, and behind it the cup.
    assert coffee[:2] == [967, 968]
    # Missile, projectile, space shuttle; and, as there is a tower beside it, drilling platform.
    assert {657, 744, 812, 540} <= set(rocket)


# --- VGG16 -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vgg16():
    """(tensors, network): VGG16 with random weights, He-scaled so that the signal keeps its strength."""
    rng = np.random.default_rng(16)
    tensors = {}

    def layer(name, *shape):
        spread = np.float32(np.sqrt(2 / np.prod(shape[1:])))
        tensors[f"{name}.weight"] = rng.standard_normal(shape, np.float32) * spread
        tensors[f"{name}.bias"] = rng.standard_normal(shape[0], np.float32) / 10

    channels = 3
    for numbers, width in zip(reference.VGG16_CONVOLUTIONS, (64, 128, 256, 512, 512)):
        for number in numbers:
            layer(f"features.{number}", width, channels, 3, 3)
            channels = width
    layer("classifier.0", 4096, 512 * 7 * 7)
    # Behind every cut: there only because a weights file has them.
    for name, units in (("classifier.3", 4096), ("classifier.6", 1000)):
        tensors[f"{name}.weight"] = np.zeros((units, 4096), np.float32)
        tensors[f"{name}.bias"] = np.zeros(units, np.float32)
    return tensors, loaded("vgg16", tensors)


@pytest.mark.xdist_group("vgg16")
def test_features_of_vgg16_are_those_of_its_definition(vgg16):
    tensors, network = vgg16
    # One photo, as it costs 31 billion operations, in the precision of the weights: fc6 alone has 411 MB.
    images = photos("vgg16")[:1]
    maps, fc6 = reference.vgg16(tensors, reference.normalise(images[0], *IMAGENET, np.float32))
    assert_same_features(features("vgg16", network, "conv", images)[0], maps)
    assert_same_features(features("vgg16", network, "fc6", images)[0], fc6)


# --- Every backbone --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BACKBONES)
def test_preprocessing_is_the_published_one(name):
    backbone = BACKBONES[name]
    size, resized, (mean, std), interpolation = PREPROCESSING.get(name, ZOO)
    assert (backbone.size, backbone.mean, backbone.std, backbone.interpolation) == (size, mean, std, interpolation)
    assert backbone.crop == pytest.approx(size / resized)
    assert backbone.resized in (0, resized)


def test_every_backbone_is_in_the_tables_here():
    assert BACKBONES.keys() == WIDTHS.keys() | set(WITH_DENSE)


def cut_shape(name, cut):
    """The body's output shape for two images, worked out without computing, and the kinds of the layers behind it."""
    network = zoo.build(name)
    side = BACKBONES[name].size
    _, shapes, _ = zoo.body(network, cut)(mx.sym.var("data")).infer_shape(data=(2, 3, side, side))
    return shapes, [type(layer).__name__ for layer in zoo.cut_layers(network, cut)[1]]


@pytest.mark.parametrize("name", WIDTHS)
def test_pool_cuts_before_the_classifier_and_its_dropout(name):
    assert BACKBONES[name].cuts == {"pool": WIDTHS[name]}
    shapes, behind = cut_shape(name, "pool")
    assert shapes == [(2, WIDTHS[name])]
    assert behind == (["Dropout"] if name in WITH_DROPOUT else [])


@pytest.mark.parametrize("name", WITH_DENSE)
def test_fc6_cuts_behind_the_first_dense_layer_and_conv_before_it(name):
    maps = 256 * 6 * 6 if name == "alexnet" else 512 * 7 * 7
    assert list(BACKBONES[name].cuts.items()) == [("fc6", 4096), ("conv", maps)]
    assert cut_shape(name, "fc6") == ([(2, 4096)], ["Dropout", "Dense", "Dropout"])
    assert cut_shape(name, "conv") == ([(2, maps)], ["Dense", "Dropout", "Dense", "Dropout"])


@pytest.mark.parametrize("name", BACKBONES)
def test_parameters_are_named_and_ordered_as_in_gluons_own_files(name):
    network = zoo.build(name)
    # What ``save_parameters`` writes.
    expected = network._collect_params_with_prefix()
    assert list(zoo.named_parameters(network).items()) == list(expected.items())


# --- The two parts ---------------------------------------------------------------------------------------------------
#
# On small random images; nothing is compiled here, so what is the same computation gives the same bits.


def noise(side):
    return mx.nd.array(np.random.default_rng(3).standard_normal((2, 3, side, side), np.float32))


@pytest.mark.parametrize("name", ["vgg11", "vgg11_bn"])
def test_layers_between_conv_and_fc6_turn_the_one_feature_into_the_other(name):
    network, images = initialised(name), noise(32)
    conv, fc6 = (zoo.body(network, cut)(images) for cut in ("conv", "fc6"))
    first, *rest = zoo.cut_layers(network, "conv")[1]
    assert rest == zoo.cut_layers(network, "fc6")[1]
    np.testing.assert_array_equal(first(conv).asnumpy(), fc6.asnumpy())
    assert fc6.shape == (2, 4096) and fc6.asnumpy().any()


@pytest.mark.parametrize(("name", "side"), [("vgg11", 32), ("alexnet", 64), ("resnet18_v1", 64), ("mobilenet0.25", 64)])
def test_body_and_the_layers_behind_it_are_the_whole_network(name, side):
    network, images = initialised(name), noise(side)
    expected = network(images).asnumpy()
    assert expected.shape == (2, 1000) and (expected[0] != expected[1]).any()
    for cut in BACKBONES[name].cuts:
        x = zoo.body(network, cut)(images)
        assert x.ndim == 2
        for layer in zoo.cut_layers(network, cut)[1]:
            x = layer(x)
        np.testing.assert_array_equal(network.output(x).asnumpy(), expected)


def test_maps_without_a_pooling_of_their_own_are_averaged():
    network, images = initialised("squeezenet1.1"), noise(64)
    maps = network.features(images).asnumpy()
    assert maps.shape == (2, 512, 3, 3)
    pooled = zoo.body(network, "pool")(images).asnumpy()
    np.testing.assert_allclose(pooled, maps.mean(axis=(2, 3)), rtol=1e-5, atol=1e-7)


# --- Weights from data/weights ---------------------------------------------------------------------------------------


def test_load_gives_the_network_its_weights(workspace, weights_file):
    workspace(BACKBONE, weights_file)
    expected = mx.nd.load(str(weights_file))
    found = zoo.named_parameters(zoo.load(BACKBONE, sha256=sha256(weights_file)))
    assert list(found) == list(expected)
    for name, parameter in found.items():
        np.testing.assert_array_equal(parameter.data().asnumpy(), expected[name].asnumpy())


def test_load_takes_another_folder_that_has_the_weights_alone(tmp_path, weights_file):
    (tmp_path / "weights.params").symlink_to(weights_file)
    assert zoo.load(BACKBONE, tmp_path, sha256=sha256(weights_file)).output.weight.data().shape == (1000, 256)


def test_weights_that_are_missing_are_one_sentence(tmp_path):
    with pytest.raises(InputError) as caught:
        zoo.load(BACKBONE, tmp_path, sha256="")
    assert str(caught.value) == f"{tmp_path}/weights.params is missing: run `dvc repro`"


@pytest.mark.parametrize("place", [0, 30, 5000, -1])
def test_one_bit_changed_in_the_weights_is_one_sentence(tmp_path, weights_file, place):
    data = bytearray(weights_file.read_bytes())
    data[place] ^= 1
    (tmp_path / "weights.params").write_bytes(data)
    with pytest.raises(InputError) as caught:
        zoo.load(BACKBONE, tmp_path, sha256=sha256(weights_file))
    assert str(caught.value) == (
        f"{tmp_path}/weights.params is damaged or was replaced (its SHA-256 is another one): run `dvc repro -f weights`"
    )
