"""The safetensors format: u64 length, a header in JSON of that length, the values."""

import json

from safetensors import deserialize

from stages.backbones.files.binary import Cursor, Refused, Tensors, values

# The package's own limit, in bytes: tells a header's length from eight letters of text.
LONGEST_HEADER = 100_000_000
TYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip


def recognises(data: bytes) -> bool:
    """Whether ``data`` begins as such a file does."""
    return data[8:9] == b"{" and int.from_bytes(data[:8], "little") <= LONGEST_HEADER


def read(data: bytes) -> Tensors:
    """The arrays by name, in the order of the header."""
    # The package's numpy reader has no bfloat16, and its tensors come in no particular order: the header gives that.
    tensors = dict(deserialize(data))  # type: ignore[no-untyped-call]
    (size,) = Cursor(data).numbers("Q")
    for name, tensor in tensors.items():
        if tensor["dtype"] not in TYPES:
            raise Refused(f"holds {name} as {tensor['dtype']}: convert it to float32")
    return {
        name: values(tensors[name]["data"], TYPES[tensors[name]["dtype"]]).reshape(tensors[name]["shape"])
        for name in json.loads(data[8 : 8 + size])
        if name != "__metadata__"
    }
