from stages.backbones import matching, zoo
from stages.backbones.catalogue import BACKBONES
from stages.backbones.families import table


def layers(name):
    """Gluon's name of each layer with parameters of the backbone ``name`` → PyTorch's."""
    parameters = list(zoo.named_parameters(zoo.build(name)))
    (theirs,) = table.of(name).namings(name, parameters)
    assert len(theirs) == len(parameters) == len(set(theirs))
    return {ours.rpartition(".")[0]: its.rpartition(".")[0] for ours, its in zip(parameters, theirs)}


def test_torchvision_names_of_alexnet_and_resnet18():
    alexnet = layers("alexnet")
    assert alexnet["features.5"] == "features.8"
    assert alexnet["features.9"] == "classifier.1" and alexnet["output"] == "classifier.6"
    resnet = layers("resnet18_v1")
    assert resnet["features.0"] == "conv1" and resnet["output"] == "fc"
    assert resnet["features.5.0.body.3"] == "layer2.0.conv2" and resnet["features.7.1.body.4"] == "layer4.1.bn2"
    assert resnet["features.5.0.downsample.1"] == "layer2.0.downsample.1"


def test_pytorchs_names_are_known_where_its_network_is_the_same():
    known = {name for name in BACKBONES if table.of(name).namings(name, list(zoo.named_parameters(zoo.build(name))))}
    assert known == {
        "alexnet", "resnet18_v1", "resnet34_v1",
        *(f"efficientnet_lite{number}" for number in range(3)),
        *(name for name, backbone in BACKBONES.items() if backbone.family in ("vit", "clip")),
        *(f"vgg{depth}{norm}" for depth in (11, 13, 16, 19) for norm in ("", "_bn")),
    }  # fmt: skip


def test_every_naming_has_a_name_for_every_layer():
    for name in BACKBONES:
        network = zoo.build(name)
        for naming in matching._namings(name, network, {"x": None}):
            assert len(naming) == len(set(naming)) == len(zoo.named_parameters(network))
