"""Writes the int8 model that ONNX Runtime and OpenVINO share: ``python bench/quantize.py NETWORK FOLDER``.

QDQ, 8 bits per channel, calibrated on the images headstart calibrates on. Runs in the environment of the peers.
"""

import sys
from pathlib import Path
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray


class Images:
    """The calibration images in ``path`` one by one, as ONNX Runtime asks for them."""

    def __init__(self, path: Path) -> None:
        self._images = iter(np.load(path))

    def get_next(self) -> Optional[dict[str, NDArray[Any]]]:
        image = next(self._images, None)
        return None if image is None else {"data": image[None]}


def main() -> None:
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    network, folder = sys.argv[1], Path(sys.argv[2])
    source, target = folder / f"{network}.float32.onnx", folder / f"{network}.int8.onnx"
    quant_pre_process(str(source), str(target), skip_symbolic_shape=True)
    images = Images(folder / f"{network}.calibration.npy")
    types = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
    quantize_static(str(target), str(target), images, quant_format=QuantFormat.QDQ, per_channel=True, **types)


if __name__ == "__main__":
    main()
