"""params.yaml as one typed model, checked whole whenever a stage starts."""

import contextlib
import difflib
import math
import re
import reprlib
import unicodedata
from pathlib import Path
from typing import Annotated, Any, Literal, Optional, Union

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from stages.common.errors import InputError
from stages.common.settings import yaml_file

FILE = "params.yaml"
# Letters of a value that are shown in a message.
LONGEST = 80


def _number(value: object) -> float:
    # YAML 1.1 reads 1e-3 (no dot) as text, and DVC writes it so.
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise PydanticCustomError("number", "must be a number")
    # MXNet takes no other for float32.
    if value and not 1e-30 <= abs(value) <= 1e30:
        raise PydanticCustomError("number", "must be 0 or between 1e-30 and 1e30 in size")
    return value


def _plain(value: str) -> str:
    # What no file system takes, and no terminal shows.
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in value):
        raise PydanticCustomError("plain", "must be text without control characters")
    return value


def _off(value: object) -> object:
    # YAML 1.1 reads off as false.
    return "off" if value is False else value


def _different(values: list[float]) -> list[float]:
    if len(set(values)) < len(values):
        raise PydanticCustomError("different", "must be different numbers")
    return values


Number = Annotated[float, BeforeValidator(_number)]
Fraction = Annotated[Number, Field(gt=0, lt=1)]
Seed = Annotated[StrictInt, Field(ge=0, lt=2**31)]
Count = Annotated[StrictInt, Field(ge=1, lt=2**31)]
Workers = Annotated[StrictInt, Field(ge=1, le=1024)]
# More is nothing to learn by.
Rate = Annotated[Number, Field(gt=0, le=1e6)]
Decay = Annotated[Number, Field(ge=0, le=1e6)]
SEVERAL = Field(min_length=1, max_length=64)
Text = Annotated[StrictStr, Field(min_length=1, max_length=4096), AfterValidator(_plain)]

# What pydantic says in terms of Python.
_MESSAGES = {
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "list_type": "must be a list",
    "model_type": "must be keys with values",
    "string_too_long": "must not be longer than 4096 letters",
    "string_too_short": "must not be empty",
    "string_type": "must be text",
    "string_unicode": "must be text without control characters",
    "too_long": "must not be longer than 64 numbers",
    "too_short": "must not be empty",
}


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def holds_secret(url: str) -> bool:
    """Whether there is a user name, a password or a signature in ``url``."""
    return re.search(r"://[^/]*@|[?&](x-amz-|x-goog-|sig=|signature=|token=)", url, re.IGNORECASE) is not None


class Dataset(Section):
    name: Text
    path: Text
    clutter: StrictBool
    groups: Optional[Text]
    on_bad_image: Literal["fail", "skip"]

    @field_validator("path")
    @classmethod
    def _no_secret(cls, path: str) -> str:
        if holds_secret(path):
            raise ValueError("must have no password or signature in it: credentials come from the environment")
        return path


class BackboneChoice(Section):
    """Which names and cuts there are is the catalogue's to say (``stages.backbones.catalogue``)."""

    name: Text
    weights: Literal["pretrained", "file"]
    path: Text
    cut: Text


class Split(Section):
    train: Fraction
    valid: Fraction
    test: Fraction
    train_per_class: Optional[Count]
    seed: Seed

    @model_validator(mode="after")
    def _whole(self) -> "Split":
        total = self.train + self.valid + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"train, valid and test must add up to 1 (they add up to {total:g})")
        return self


class Featurize(Section):
    resize: Literal["crop", "squash"]
    precision: Literal["float32", "bfloat16", "int8", "float16"]
    dtype: Literal["float16", "float32"]


class Audit(Section):
    enabled: StrictBool


class Train(Section):
    """lr, weight_decay: a number, or several, of which all combinations are trained."""

    optimizer: Literal["adam", "sgd", "nag", "rmsprop", "adagrad"]
    lr: Union[Rate, Annotated[list[Rate], SEVERAL, AfterValidator(_different)]]
    weight_decay: Union[Decay, Annotated[list[Decay], SEVERAL, AfterValidator(_different)]]
    schedule: Literal["constant", "cosine"]
    epochs: Count
    batch_size: Count
    dropout: Annotated[Number, Field(ge=0, lt=1)]
    class_weights: Literal["none", "balanced"]
    refit: StrictBool
    trainable: Literal["last", "all"]
    seed: Seed

    @property
    def rates(self) -> list[float]:
        """The learning rates to try."""
        return self.lr if isinstance(self.lr, list) else [self.lr]

    @property
    def decays(self) -> list[float]:
        """The weight decays to try."""
        return self.weight_decay if isinstance(self.weight_decay, list) else [self.weight_decay]


class Runtime(Section):
    devices: Union[
        Literal["auto", "cpu", "gpu"],
        Annotated[list[Annotated[StrictInt, Field(ge=0)]], Field(min_length=1, max_length=64)],
    ]
    workers: Union[Literal["auto"], Workers]
    batch_size: Annotated[StrictInt, Field(ge=1, le=1024)]
    cache: Annotated[Text, BeforeValidator(_off)]
    cache_gb: Union[Literal["auto"], Annotated[Number, Field(gt=0, le=1e9)]]
    engine: Literal["local", "ray"]
    ray_address: Text

    @field_validator("ray_address")
    @classmethod
    def _address(cls, address: str) -> str:
        if not re.fullmatch(r"auto|local|(ray://)?([\w.-]+|\[[0-9a-fA-F:]+\]):\d{1,5}", address):
            raise ValueError(f"must be auto, local, host:port or ray://host:port (got {address!r})")
        return address

    @model_validator(mode="after")
    def _anywhere(self) -> "Runtime":
        if self.engine == "ray" and isinstance(self.devices, list):
            raise ValueError("engine ray hands the GPUs out itself: set devices to gpu, and workers to how many")
        return self


class Params(Section):
    dataset: Dataset
    backbone: BackboneChoice
    split: Split
    featurize: Featurize
    audit: Audit
    train: Train
    runtime: Runtime


def load(path: Union[str, Path] = FILE) -> Params:
    """Reads and checks ``path``.

    Raises InputError with one sentence that names the first key that is wrong, and how many others are.
    """
    values = yaml_file.read(Path(path))
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        raise InputError(_sentence(path, error.errors())) from None


def _sentence(path: Union[str, Path], errors: list[ErrorDetails]) -> str:
    first = errors[0]
    # A place is section, key, and then what pydantic tried inside the key's value.
    keys = [str(part)[:LONGEST] for part in first["loc"][:2]]
    key = ".".join(keys) or "the file"
    if first["type"] == "extra_forbidden":
        section: Any = Params if len(keys) == 1 else Params.model_fields[keys[0]].annotation
        known = list(section.model_fields)
        near = difflib.get_close_matches(keys[-1], known, n=1)
        what = f"no such key; did you mean {near[0]}?" if near else f"no such key; there is {', '.join(known)}"
    elif first["type"] == "missing":
        what = "is missing"
    elif first["type"] == "value_error":
        what = str(first["ctx"]["error"])
    else:
        wanted = dict.fromkeys(_message(error) for error in errors if error["loc"][:2] == first["loc"][:2])
        what = f"{'; or '.join(wanted)} (got {_shown(first['input'])})"
    others = len({error["loc"][:2] for error in errors}) - 1
    more = f" (and {others} more key{'s' if others > 1 else ''} to mend)" if others else ""
    return f"{path}: {key}: {what}{more}"


def _message(error: ErrorDetails) -> str:
    return _MESSAGES.get(error["type"]) or error["msg"].replace("Input should be", "must be")


def _shown(value: object) -> str:
    """``value`` for a message, cut where it is long."""
    short = reprlib.Repr()
    short.maxstring = short.maxlong = short.maxother = LONGEST
    try:
        return short.repr(value)[: 2 * LONGEST]
    except ValueError:
        # Python writes no whole number of more than some thousand digits.
        return "a number of thousands of digits"
