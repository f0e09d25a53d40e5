"""Gluon blocks of vision transformers (Dosovitskiy et al. 2021, arXiv:2010.11929). Importing this loads MXNet.

Tokens are the pixels of an "image", (n, width, tokens, 1): a dense layer over them is a 1×1 convolution, which oneDNN
computes for each image by itself, and attention heads are groups of channels, so that nothing is transposed.
"""

from typing import Any, Optional

from stages.backend.mx import mx

Layer = Any  # an mx.gluon.HybridBlock; MXNet has no types


class Headless(mx.gluon.HybridBlock):  # type: ignore[misc]
    """``features`` alone, for a network whose files have no classifier."""

    def __init__(self, features: Layer) -> None:
        super().__init__()
        self.features = features

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return self.features(x)


class Dense(mx.gluon.HybridBlock):  # type: ignore[misc]
    """A dense layer for every token: (n, width, tokens, 1) → (n, units, tokens, 1).

    scaled: whether it has a factor for each unit (layer scale, Touvron et al. 2021, arXiv:2103.17239).
    times, input_times: what its outputs and inputs are multiplied by.
    """

    def __init__(
        self,
        units: int,
        width: int,
        bias: bool = True,
        scaled: bool = False,
        times: float = 1,
        input_times: float = 1,
    ) -> None:
        super().__init__()
        self._units, self._times, self._input_times = units, times, input_times
        self.weight = self.params.get("weight", shape=(units, width))
        if bias:
            self.bias = self.params.get("bias", shape=(units,), init="zeros")
        if scaled:
            self.scale = self.params.get("scale", shape=(units,), init="ones")

    def hybrid_forward(self, F: Any, x: Any, weight: Any, bias: Any = None, scale: Any = None) -> Any:
        if scale is not None:
            weight, bias = F.broadcast_mul(weight, F.expand_dims(scale, axis=1)), bias * scale
        if self._times != 1 or self._input_times != 1:
            weight, bias = weight * (self._times * self._input_times), bias * self._times
        return pointwise(F, x, self._units, weight, bias)


def pointwise(F: Any, x: Any, units: int, weight: Any, bias: Optional[Any] = None) -> Any:
    """``weight`` (units, width) and ``bias`` (units,) or None for every token of x (n, width, tokens, 1)."""
    given = [F.reshape(weight, shape=(0, 0, 1, 1)), *([] if bias is None else [bias])]
    return F.Convolution(x, *given, kernel=(1, 1), num_filter=units, no_bias=bias is None)


def first(F: Any, x: Any) -> Any:
    """The first token: (n, width, tokens, 1) → (n, width, 1, 1)."""
    return F.slice_axis(x, axis=2, begin=0, end=1)


class Embedding(mx.gluon.HybridBlock):  # type: ignore[misc]
    """(n, 3, size, size) → (n, width, tokens, 1): a class token, ``registers`` of them, one for each patch.

    The class token and the patches have positions; registers (Darcet et al. 2024, arXiv:2309.16588) have none.
    """

    def __init__(self, size: int, patch: int, width: int, registers: int = 0, bias: bool = True) -> None:
        super().__init__()
        self._prefix_tokens = 1 + registers
        self.class_token = self.params.get("class_token", shape=(1, 1, width))
        self.position = self.params.get("position", shape=(1, 1 + (size // patch) ** 2, width))
        if registers:
            self.registers = self.params.get("registers", shape=(1, registers, width))
        self.patches = mx.gluon.nn.Conv2D(width, patch, patch, use_bias=bias, in_channels=3)

    def hybrid_forward(self, F: Any, x: Any, class_token: Any, position: Any, registers: Any = None) -> Any:
        added = [class_token + F.slice_axis(position, axis=1, begin=0, end=1)]
        added += [] if registers is None else [registers]
        added += [F.slice_axis(position, axis=1, begin=1, end=None)]
        table = F.expand_dims(F.transpose(F.concat(*added, dim=1), axes=(0, 2, 1)), axis=3)
        x = F.reshape(self.patches(x), shape=(0, 0, -1, 1))
        # Room for the tokens in front, which have nothing but what is added.
        before = (0, 0, 0, 0, self._prefix_tokens, 0, 0, 0)
        x = F.pad(x, mode="constant", constant_value=0, pad_width=before)
        return F.broadcast_add(x, table)


class Attention(mx.gluon.HybridBlock):  # type: ignore[misc]
    """Multi-head self-attention (Vaswani et al. 2017, arXiv:1706.03762), but for the projection behind it.

    Queries, keys and values are one dense layer. last: whether only the first token's result is wanted.
    (n, width, tokens, 1) → (n, width, tokens, 1), or (n, width, 1, 1).
    """

    def __init__(self, width: int, heads: int, tokens: int, last: bool) -> None:
        super().__init__()
        self._width, self._heads, self._tokens, self._last = width, heads, tokens, last
        self.weight = self.params.get("weight", shape=(3 * width, width))
        self.bias = self.params.get("bias", shape=(3 * width,), init="zeros")

    def hybrid_forward(self, F: Any, x: Any, weight: Any, bias: Any) -> Any:
        # The product of query and key is divided by the root of their length.
        length = self._width // self._heads
        asked, rest = ([F.slice_axis(p, axis=0, **part) for p in (weight, bias)] for part in self._parts())
        asked = [p * length**-0.5 for p in asked]
        if self._last:
            query = self._heads_of(F, pointwise(F, first(F, x), self._width, *asked), 1, 1)[0]
            key, value = self._heads_of(F, pointwise(F, x, 2 * self._width, *rest), 2, self._tokens)
        else:
            both = (F.concat(*pair, dim=0) for pair in zip(asked, rest))
            query, key, value = self._heads_of(F, pointwise(F, x, 3 * self._width, *both), 3, self._tokens)
        attention = F.softmax(F.batch_dot(query, key, transpose_a=True), axis=-1)
        mixed = F.batch_dot(value, attention, transpose_b=True)
        return F.reshape(mixed, shape=(-1, self._width, 1 if self._last else self._tokens, 1))

    def _parts(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return {"begin": 0, "end": self._width}, {"begin": self._width, "end": None}

    def _heads_of(self, F: Any, x: Any, parts: int, tokens: int) -> list[Any]:
        """(n, parts * width, tokens, 1) → for each part (n * heads, width / heads, tokens)."""
        length = self._width // self._heads
        x = F.reshape(x, shape=(-1, parts, self._width, tokens))
        each = (F.slice_axis(x, axis=1, begin=part, end=part + 1) for part in range(parts))
        return [F.reshape(part, shape=(-1, length, tokens)) for part in each]


class Block(mx.gluon.HybridBlock):  # type: ignore[misc]
    """Attention, then two dense layers over each token; both read normalised tokens and are added to them.

    (n, width, tokens, 1) → the same shape; last: → (n, width, 1, 1), the first token alone.
    epsilon: of the layer norms. scaled: whether it has layer scales. quick: whether the activation is QuickGELU,
    x · sigmoid(1.702 x), instead of GELU.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        tokens: int,
        epsilon: float,
        scaled: bool = False,
        quick: bool = False,
        last: bool = False,
    ) -> None:
        super().__init__()
        self._quick, self._last = quick, last
        # QuickGELU is x · sigmoid(x) for an input 1.702 times as large, divided by that again.
        factor = 1.702 if quick else 1
        self.norm1 = norm(width, epsilon)
        self.attention = Attention(width, heads, tokens, last)
        self.projection = Dense(width, width, scaled=scaled)
        self.norm2 = norm(width, epsilon)
        self.dense1 = Dense(4 * width, width, times=factor)
        self.dense2 = Dense(width, 4 * width, scaled=scaled, input_times=1 / factor)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        attended = self.projection(self.attention(self.norm1(x)))
        x = (first(F, x) if self._last else x) + attended
        y = self.dense1(self.norm2(x))
        y = y * F.Activation(y, act_type="sigmoid") if self._quick else F.LeakyReLU(y, act_type="gelu")
        return x + self.dense2(y)


def norm(width: int, epsilon: float) -> Layer:
    """Layer norm of every token."""
    return mx.gluon.nn.LayerNorm(axis=1, epsilon=epsilon, in_channels=width)
