"""What is read from a network's graph."""

import pytest

from stages.backend.mx import mx
from stages.inference import graph
from tests.inference.bodies import error, images, padding, random_body


def test_a_traced_body_is_the_body():
    body = random_body("mobilenet0.25", 64)
    symbol, arrays = graph.trace(body)
    assert set(symbol.list_inputs()) == {"data", *arrays}
    batch = images(2, 64)
    auxiliary = set(symbol.list_auxiliary_states())
    given = {name: mx.nd.array(array) for name, array in arrays.items()}
    states = {name: given.pop(name) for name in auxiliary}
    (computed,) = symbol.bind(mx.cpu(), {**given, "data": mx.nd.array(batch)}, aux_states=states).forward()
    assert error(computed.asnumpy(), body(mx.nd.array(batch)).asnumpy()) <= 4e-5


def test_nodes_know_their_shapes_and_who_reads_them():
    data = mx.sym.var("data")
    convolution = mx.sym.Convolution(data, kernel=(3, 3), stride=(2, 2), num_filter=4, no_bias=True, name="layer")
    symbol = mx.sym.elemwise_add(mx.sym.relu(convolution, name="same"), mx.sym.tanh(convolution, name="same"))
    nodes = graph.read(symbol, (2, 3, 9, 9))
    assert [node.op for node in nodes] == ["null", "null", "Convolution", "relu", "tanh", "elemwise_add"]
    assert [node.shape for node in nodes] == [(2, 3, 9, 9), (4, 3, 3, 3), *[(2, 4, 4, 4)] * 4]
    assert [node.op for node in nodes[2].users] == ["relu", "tanh"]
    assert nodes[-1].inputs == [(3, 0), (4, 0)] and nodes[-1].users == []
    assert nodes[2].attr("stride", (1, 1)) == (2, 2)
    assert nodes[2].attr("pad", (0, 0)) == (0, 0)
    assert nodes[2].attr("no_bias", False) is True


def test_an_output_of_several_has_no_shape():
    split = mx.sym.split(mx.sym.var("data"), num_outputs=3, name="split")
    nodes = graph.read(mx.sym.elemwise_add(split[0], split[2]), (1, 3, 2, 2))
    assert nodes[1].shape is None
    assert nodes[2].inputs == [(1, 0), (1, 2)]


@pytest.mark.parametrize(
    ("last", "gains"),
    [
        ([mx.gluon.nn.GlobalMaxPool2D(), mx.gluon.nn.Flatten()], True),
        ([mx.gluon.nn.Flatten()], False),
        ([mx.gluon.nn.MaxPool2D(3, 2), mx.gluon.nn.GlobalAvgPool2D()], False),
    ],
)
@pytest.mark.parametrize("at_end", [True, False])
def test_only_a_network_that_pads_at_the_end_and_forgets_places_is_rotated(last, gains, at_end):
    net = mx.gluon.nn.HybridSequential()
    net.add(padding(0, 1, 0, 1) if at_end else padding(1, 1, 1, 1), mx.gluon.nn.Conv2D(4, 3, strides=2), *last)
    assert graph.gains_by_rotation(net(mx.sym.var("data")), (1, 3, 12, 12)) == (gains and at_end)
