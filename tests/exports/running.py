"""Runs an exported classifier as its users would."""

import numpy as np
import onnxruntime

from stages.backend.mx import mx

# How far probabilities may be from the pipeline's own.
TOLERANCE = 1e-4


def by_mxnet(folder, batch):
    network = mx.gluon.SymbolBlock.imports(
        str(folder / "model-symbol.json"), ["data"], str(folder / "model-0000.params")
    )
    return network(mx.nd.array(batch)).asnumpy()


def by_onnx(folder, batch):
    (found,) = onnxruntime.InferenceSession(str(folder / "model.onnx")).run(None, {"data": batch})
    return found


def assert_same(found, expected):
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)
    np.testing.assert_array_equal(found.argmax(axis=1), expected.argmax(axis=1))
