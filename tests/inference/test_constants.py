"""What depends on parameters alone is computed once; everything else stays as it is."""

import numpy as np

from stages.backend.mx import mx
from stages.inference import constants, graph

ARRAYS = {"weight": np.arange(6, dtype=np.float32).reshape(2, 3), "bias": np.array([1, 2], np.float32)}


def variables():
    return mx.sym.var("data"), *(mx.sym.var(name, shape=array.shape) for name, array in ARRAYS.items())


def folded(symbol):
    nodes = graph.read(symbol, (4, 3))
    return nodes, constants.folded(symbol, nodes, ARRAYS)


def test_what_parameters_give_becomes_a_parameter():
    data, weight, bias = variables()
    scaled = mx.sym.broadcast_mul(weight * 2, mx.sym.expand_dims(bias, axis=1), name="scaled")
    nodes, arrays = folded(mx.sym.FullyConnected(data, scaled, bias, num_hidden=2, name="dense"))
    dense = nodes[-1]
    assert [nodes[source].name for source, _ in dense.inputs] == ["data", "scaled", "bias"]
    assert {node.op for node in nodes[:-1]} == {"null"}
    np.testing.assert_array_equal(arrays["scaled"], ARRAYS["weight"] * 2 * ARRAYS["bias"][:, None])
    # What is between is not kept.
    assert arrays.keys() == {"weight", "bias", "scaled"}


def test_a_graph_without_any_stays_as_it_is():
    data, weight, bias = variables()
    symbol = mx.sym.Activation(mx.sym.FullyConnected(data, weight, bias, num_hidden=2), act_type="relu")
    nodes, arrays = folded(symbol)
    assert [node.op for node in nodes] == ["null", "null", "null", "FullyConnected", "Activation"]
    assert arrays is ARRAYS
