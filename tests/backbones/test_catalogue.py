import pytest

from stages.backbones.catalogue import BACKBONES, cut_of, find
from stages.common.errors import InputError


def sentence(call, *arguments):
    with pytest.raises(InputError) as caught:
        call(*arguments)
    return str(caught.value)


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_is_found_and_can_be_cut_at_each_of_its_cuts(name):
    backbone = find(name)
    assert backbone.name == name and backbone.cuts
    assert [cut_of(backbone, cut) for cut in backbone.cuts] == list(backbone.cuts)


@pytest.mark.parametrize("name", BACKBONES)
def test_auto_is_the_deepest_cut(name):
    assert cut_of(find(name), "auto") == ("fc6" if name.startswith(("vgg", "alexnet")) else "pool")


def test_an_unknown_backbone_is_refused_with_those_like_it():
    message = sentence(find, "resnet50v1")
    assert message.startswith("params.yaml: backbone.name: there is no backbone 'resnet50v1'; there is ")
    assert "resnet50_v1" in message and "resnet50" in message and "vgg16" not in message


def test_an_unknown_backbone_like_no_other_is_refused_with_all_there_are():
    message = sentence(find, "zzz")
    assert all(name in message for name in BACKBONES)


@pytest.mark.parametrize(
    ("name", "cut", "cuts"), [("efficientnet_lite0", "fc6", "pool"), ("vgg16", "fc7", "fc6 or conv")]
)
def test_a_cut_that_the_backbone_does_not_have_is_refused(name, cut, cuts):
    message = sentence(cut_of, find(name), cut)
    assert message == f"params.yaml: backbone: cut of {name} must be auto or {cuts} (got {cut!r})"
