"""The Gluon networks behind the backbones' names, and how one is cut into a frozen body and a head.

The cut is made at the deepest point that training cannot change: everything before the first dropout is
frozen and deterministic, so its output can be stored once. ``conv`` cuts earlier, after the convolutions.
"""

from stages.backbones.catalogue import BACKBONES
from stages.backbones.efficientnet_lite import SIZES, EfficientNetLite
from stages.backend.mx import mx
from stages.common.layout import WEIGHTS

nn = mx.gluon.nn


def build(name):
    """The whole network called ``name``, with its 1000 ImageNet outputs; its parameters hold no values yet.

    Like every classifier of the Gluon zoo it has two children: ``features`` (a sequence) and ``output``.
    """
    if name in SIZES:
        return EfficientNetLite(name, BACKBONES[name].size)
    return mx.gluon.model_zoo.vision.get_model(name)


def load(name, folder=WEIGHTS):
    """The network called ``name`` with the weights that the ``weights`` stage left in ``folder``, on the CPU."""
    network = build(name)
    network.load_parameters(str(folder / "weights.params"), ctx=mx.cpu())
    return network


def cut_layers(network, cut):
    """Splits ``network.features`` at ``cut``: returns the lists (frozen body, layers between body and output).

    conv: before the first dense layer. fc6, pool: before the first dropout (or at the end).
    auto: as fc6 and pool.
    """
    layers = list(network.features)
    kind = nn.Dense if cut == "conv" else nn.Dropout
    at = next((i for i, layer in enumerate(layers) if isinstance(layer, kind)), len(layers))
    return layers[:at], layers[at:]


class Body(mx.gluon.HybridBlock):
    """The frozen part: (n, 3, size, size) float32 normalised pixels → (n, dim) float32 features.

    Maps that reach its end are averaged over their positions ("pool"), or flattened ("conv").
    """

    def __init__(self, network, cut):
        super().__init__()
        layers, _ = cut_layers(network, cut)
        with self.name_scope():
            self.layers = nn.HybridSequential()
        self.layers.add(*layers)
        if cut != "conv" and not any(isinstance(layer, (nn.Dense, nn.Flatten)) for layer in layers):
            self.layers.add(nn.GlobalAvgPool2D())
        self.layers.add(nn.Flatten())

    def hybrid_forward(self, F, x):
        return self.layers(x)
