from stages.backbones import zoo
from stages.backbones.catalogue import BACKBONES
from stages.backbones.families import table
from stages.checkpoints import matching


def layers(name, kind=0):
    """Gluon's name of each layer with parameters of the backbone ``name`` → PyTorch's, in its ``kind`` of files."""
    parameters = list(zoo.named_parameters(zoo.build(name)))
    theirs = table.of(name).namings(name, parameters)[kind]
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


def test_torchvision_names_of_a_bottleneck():
    found = layers("resnet50")
    assert found["features.5.3.layers.6"] == "layer2.3.conv3" and found["features.5.0.shortcut.0"].endswith("sample.0")


def test_both_names_of_squeeze_and_excitation():
    timm, torchvision = layers("efficientnet_b0"), layers("efficientnet_b0", 1)
    # The first block of all does not widen its channels.
    assert timm["features.3.layers.0"] == "blocks.0.0.conv_dw" and timm["features.3.layers.5"] == "blocks.0.0.bn2"
    assert torchvision["features.3.layers.4"] == "features.1.0.block.2.0"
    assert timm["features.5.layers.6.reduce"] == "blocks.1.1.se.conv_reduce"
    assert torchvision["features.5.layers.6.expand"] == "features.2.1.block.2.fc2"
    assert timm["features.5.layers.8"] == "blocks.1.1.bn3" and torchvision["output"] == "classifier.1"


def test_both_names_of_mobilenetv3_whose_blocks_have_not_all_excitation():
    timm, torchvision = layers("mobilenetv3_large_100"), layers("mobilenet_v3_large")
    assert timm["features.6.layers.6.reduce"] == "blocks.2.0.se.conv_reduce"
    assert torchvision["features.6.layers.6.reduce"] == "features.4.block.2.fc1"
    assert torchvision["features.4.layers.6"] == "features.2.block.2.0"
    assert (timm["features.22"], torchvision["features.22"]) == ("conv_head", "classifier.0")


def test_both_names_of_convnext():
    timm, torchvision = layers("convnext_tiny"), layers("convnext_tiny", 1)
    assert timm["features.3.0"] == "stages.1.downsample.0" and torchvision["features.3.0"] == "features.2.0"
    assert timm["features.6.8.layers.4"] == "stages.2.blocks.8.mlp.fc2"
    assert torchvision["features.6.8.layers.4"] == "features.5.8.block.5"


def test_pytorchs_names_are_known_where_its_network_is_the_same():
    known = {name for name in BACKBONES if table.of(name).namings(name, list(zoo.named_parameters(zoo.build(name))))}
    assert known == {
        "alexnet", "resnet18_v1", "resnet34_v1",
        *(f"efficientnet_lite{number}" for number in range(3)),
        *(name for name, backbone in BACKBONES.items() if backbone.family in ("vit", "clip")),
        *(f"vgg{depth}{norm}" for depth in (11, 13, 16, 19) for norm in ("", "_bn")),
        *(n for n, b in BACKBONES.items() if b.family in ("convnext", "efficientnet", "mobilenetv3", "resnet")),
    }  # fmt: skip


def test_every_naming_has_a_name_for_every_layer():
    for name in BACKBONES:
        network = zoo.build(name)
        for naming in matching._namings(name, network, {"x": None}):
            assert len(naming) == len(set(naming)) == len(zoo.named_parameters(network))
