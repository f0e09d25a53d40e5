"""The file with the class names."""

from stages.common.settings.layout import CLASSES
from stages.dataset import classes

NAMES = ["dög", "cat", "red panda", "a\u2028b", " "]


def test_classes_are_read_in_the_order_in_which_they_were_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    classes.write(NAMES)
    assert CLASSES.read_bytes().decode() == "dög\ncat\nred panda\na\u2028b\n \n"
    assert classes.read() == NAMES
