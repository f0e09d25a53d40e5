"""ONNX that says what MXNet computes."""

import numpy as np

from stages.backend.mx import mx
from stages.exports import graph, onnx
from tests.exports.running import by_mxnet, by_onnx


def test_a_batch_norm_without_scale_has_none_in_onnx_either(tmp_path):
    # As the first layer of ResNet v2; what the file holds for its scale is not to be used.
    data = mx.sym.var("data")
    norm = mx.sym.BatchNorm(data, name="norm", fix_gamma=True, eps=1e-5)
    symbol = mx.sym.softmax(mx.sym.Flatten(norm), axis=-1, name="probabilities")
    arrays = {name: mx.nd.array([3.0, 2.0, 0.5]) for name in ("norm_gamma", "norm_beta", "norm_moving_var")}
    arrays["norm_moving_mean"] = mx.nd.array([0.1, -0.1, 0])
    normed = graph.Graph(symbol, arrays)
    graph.save(normed, tmp_path)
    onnx.write(normed, 2, tmp_path / "model.onnx")
    batch = np.random.default_rng(2).standard_normal((2, 3, 2, 2), np.float32)
    np.testing.assert_allclose(by_onnx(tmp_path, batch), by_mxnet(tmp_path, batch), atol=1e-6)
