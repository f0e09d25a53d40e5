"""Idle channels that hold finer steps of others: the same function, and nearer to it in integers."""

import numpy as np
import pytest

from stages.backend.mx import mx
from stages.inference import idle, simplify
from stages.inference.rewrite import rewrite
from tests.inference.bodies import error, images

SIDE, CHANNELS, IDLE = 32, 8, [2, 5]
SHAPE = (4, 3, SIDE, SIDE)
# Of the clips, so that one step of the 8 bits is 1.
TOP = 255
nn = mx.gluon.nn


def bounded():
    return nn.HybridLambda(lambda F, x: F.clip(x, 0, TOP))


def convolution(channels, kernel, before, **options):
    return nn.Conv2D(channels, kernel, padding=kernel // 2, in_channels=before, **options)


class Sum(nn.HybridSequential):
    """Its layers, plus what they get."""

    def hybrid_forward(self, F, x):
        return super().hybrid_forward(F, x) + x


@pytest.fixture
def body():
    """A depthwise convolution that takes differences, between two others, and a residual behind them."""
    random = np.random.default_rng(0)
    made = nn.HybridSequential()
    made.add(convolution(CHANNELS, 3, 3), bounded(), convolution(CHANNELS, 3, CHANNELS, groups=CHANNELS), bounded())
    residual = Sum()
    residual.add(convolution(4, 3, 4))
    made.add(convolution(4, 1, CHANNELS), residual)
    made.initialize()
    first, _, depthwise, _, last, _ = made
    first.weight.set_data(mx.nd.array(random.normal(0, 5, first.weight.shape)))
    # In the middle of what the clips leave, and far from their ends.
    first.bias.set_data(mx.nd.full(CHANNELS, TOP / 2))
    differences = np.broadcast_to(np.array([[-1, 0, 1], [-1, 0, 1], [-1, 0, 1]]), depthwise.weight.shape)
    differences = differences * random.uniform(0.1, 1, (CHANNELS, 1, 1, 1))
    depthwise.weight.set_data(mx.nd.array(differences))
    depthwise.bias.set_data(mx.nd.full(CHANNELS, TOP / 2))
    reading = random.normal(0, 1, last.weight.shape)
    reading[:, IDLE] = 0
    last.weight.set_data(mx.nd.array(reading))
    residual[0].weight.set_data(mx.nd.array(random.normal(0, 0.2, residual[0].weight.shape)))
    return made


@pytest.fixture
def batch():
    """Images of low contrast: most of what a depthwise convolution reads is lost in 8 bits."""
    return (images(SHAPE[0], SIDE) * 0.05).astype(np.float32)


def traced(body):
    symbol = body(mx.sym.var("data"))
    return rewrite(symbol, {name: p.data().asnumpy() for name, p in body.collect_params().items()}, SHAPE)


def computed(symbol, parameters, batch):
    return simplify.block(symbol, parameters, mx.cpu())(mx.nd.array(batch)).asnumpy()


def test_the_function_stays_the_same(body, batch):
    symbol, parameters = traced(body)
    lent = idle.lent(symbol, parameters, SHAPE)
    assert error(computed(symbol, lent, batch), computed(symbol, parameters, batch)) < 1e-5
    # Both idle channels are read now, and each by halves or thirds with those they are copies of.
    before, after = (values["convolution2_weight"].asnumpy() for values in (parameters, lent))
    assert not before[:, IDLE].any() and after[:, IDLE].all()
    assert np.allclose(before.sum(axis=1), after.sum(axis=1), atol=1e-6)
    assert sorted(lent) == sorted(parameters)


def test_the_noisiest_channels_get_the_places(body):
    symbol, parameters = traced(body)
    depthwise, last = (parameters[f"convolution{n}_weight"].asnumpy() for n in (1, 2))
    noise = np.square(depthwise).sum((1, 2, 3)) * np.square(last).sum((0, 2, 3))
    noisiest = noise.argsort()[-2:]
    # As a square, a quarter of the noise is left with two copies.
    assert noise[noisiest[1]] / 4 < noise[noisiest[0]]
    lent = idle.lent(symbol, parameters, SHAPE)
    made = lent["convolution0_weight"].asnumpy().reshape(CHANNELS, -1)
    apart = np.subtract.outer(*[lent["convolution0_bias"].asnumpy()] * 2)
    pairs = [(channel, place) for channel in noisiest for place in IDLE if np.array_equal(made[channel], made[place])]
    assert sorted(place for _, place in pairs) == IDLE and {channel for channel, _ in pairs} == set(noisiest)
    assert np.allclose([abs(apart[pair]) for pair in pairs], 0.5, atol=1e-4)


def test_less_is_lost_in_8_bits(body, batch):
    """Of what the depthwise convolution reads, rounded here to the steps that integers have."""
    symbol, parameters = traced(body)
    exact = computed(symbol, parameters, batch)
    rounded = nn.HybridSequential()
    rounded.add(*body[:2], nn.HybridLambda(lambda F, x: F.rint(x)), *body[2:])
    symbol, _ = traced(rounded)

    def off(parameters):
        return np.linalg.norm(computed(symbol, parameters, batch) - exact)

    assert off(idle.lent(*traced(body), SHAPE)) < 0.7 * off(parameters)


def other_bodies():
    """By name: layers that do not begin as :func:`body` does, though a channel is idle."""
    depthwise = {"groups": CHANNELS}
    begin = [convolution(CHANNELS, 3, 3), bounded(), convolution(CHANNELS, 3, CHANNELS, **depthwise)]
    return {
        "no clip": [begin[0], nn.Activation("relu"), begin[2], convolution(4, 1, CHANNELS)],
        "a clip of negative values": [
            begin[0],
            nn.HybridLambda(lambda F, x: F.clip(x, -TOP, TOP)),
            begin[2],
            convolution(4, 1, CHANNELS),
        ],
        "no depthwise convolution": [*begin[:2], convolution(CHANNELS, 3, CHANNELS), convolution(4, 1, CHANNELS)],
        "nothing behind": begin,
        "a pooling behind": [*begin, nn.MaxPool2D(), convolution(4, 1, CHANNELS)],
        "two depthwise ones": [*begin, convolution(CHANNELS, 3, CHANNELS, **depthwise)],
        "a sum": [*begin[:2], Sum(), convolution(4, 1, CHANNELS)],
    }


@pytest.mark.parametrize("name", other_bodies())
def test_other_networks_stay_as_they_are(name):
    body = nn.HybridSequential()
    for layer in other_bodies()[name]:
        if isinstance(layer, Sum):
            layer.add(convolution(CHANNELS, 3, CHANNELS, groups=CHANNELS))
        body.add(layer)
    body.initialize(mx.init.Zero())
    symbol, parameters = traced(body)
    assert idle.lent(symbol, parameters, SHAPE) is parameters


def test_a_network_without_an_idle_channel_stays_as_it_is(body):
    body[4].weight.set_data(mx.nd.ones(body[4].weight.shape))
    symbol, parameters = traced(body)
    lent = idle.lent(symbol, parameters, SHAPE)
    assert all(np.array_equal(lent[name].asnumpy(), values.asnumpy()) for name, values in parameters.items())


def test_a_network_that_reads_nothing_stays_as_it_is(body):
    body[4].weight.set_data(mx.nd.zeros(body[4].weight.shape))
    symbol, parameters = traced(body)
    lent = idle.lent(symbol, parameters, SHAPE)
    assert all(np.array_equal(lent[name].asnumpy(), values.asnumpy()) for name, values in parameters.items())
