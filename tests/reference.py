"""Preprocessing and the backbones' forward passes in plain NumPy, to hold headstart's features against.

Written from the definitions, and nothing here is shared with ``stages``: no MXNet, no block table, no folded
batch norm, no padding written into kernels. Images are (height, width, channels) as in TensorFlow, one at a time;
weights are named and laid out as in PyTorch's files. All is computed in the dtype of the image.

EfficientNet: Tan & Le 2019, arXiv:1905.11946, table 1; its Lite variants: no squeeze-and-excitation, ReLU6
instead of swish, stem and head not widened. VGG16: Simonyan & Zisserman 2014, arXiv:1409.1556, table 1, column D.
"""

import numpy as np

# Blocks per stage, counted out after depth scaling by 1.0, 1.1 and 1.2 (rounded up; first and last stage fixed).
LITE_BLOCKS = {0: (1, 2, 2, 3, 3, 4, 1), 1: (1, 3, 3, 4, 4, 5, 1), 2: (1, 3, 3, 4, 4, 5, 1)}
# Stride of each stage's first block. Kernel sizes and widths are those of the weights.
LITE_STRIDES = (1, 2, 2, 2, 1, 2, 1)

# Convolutions between two max poolings, by their numbers in torchvision's `features`.
VGG16_CONVOLUTIONS = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))


def normalise(pixels, mean, std, dtype=np.float64):
    """uint8 (h, w, 3) → ``dtype``, scaled to [0, 1], less the mean, divided by the standard deviation."""
    return (pixels.astype(dtype) / 255 - np.array(mean, dtype)) / np.array(std, dtype)


def resized(image, box, size, cubic):
    """uint8 (h, w, 3) → float64 (size, size, 3): ``box`` (left, top, right, bottom), antialiased, rounded nowhere.

    The kernel, a triangle or Keys's cubic (1981) with a = -0.5, is stretched by the scale where that is more than 1.
    """
    left, top, right, bottom = box
    down = _resampling(image.shape[0], top, bottom, size, cubic)
    across = _resampling(image.shape[1], left, right, size, cubic)
    return np.einsum("yh,hwc,xw->yxc", down, image.astype(np.float64), across, optimize=True)


def _resampling(given, start, end, size, cubic):
    """The matrix (size, given) that resizes the part from ``start`` to ``end`` of a side."""
    scale = (end - start) / size
    centres = start + (np.arange(size) + 0.5) * scale
    x = np.abs(np.arange(given) + 0.5 - centres[:, None]) / max(scale, 1)
    if cubic:
        near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
        weights = np.where(x < 1, near, np.where(x < 2, far, 0))
    else:
        weights = np.clip(1 - x, 0, None)
    return weights / weights.sum(axis=1, keepdims=True)


def efficientnet_lite(number, tensors, image):
    """EfficientNet-Lite0, 1 or 2: image (h, w, 3) → (features (1280,), logits (1000,))."""
    x = _relu6(_norm(tensors, "_bn0", _convolution(image, tensors["_conv_stem.weight"], 2, _same)))
    block = 0
    for repeats, stride in zip(LITE_BLOCKS[number], LITE_STRIDES):
        for repeat in range(repeats):
            x = _inverted_residual(tensors, f"_blocks.{block}.", x, 1 if repeat else stride)
            block += 1
    x = _relu6(_norm(tensors, "_bn1", _convolution(x, tensors["_conv_head.weight"], 1, _same)))
    features = x.mean(axis=(0, 1))
    return features, _dense(tensors, "_fc", features)


def vgg16(tensors, image):
    """VGG16 up to its first dense layer: image (h, w, 3) → (flat maps of the last pooling, fc6 after its ReLU)."""
    x = image
    for numbers in VGG16_CONVOLUTIONS:
        for number in numbers:
            x = _convolution(x, tensors[f"features.{number}.weight"], 1, _one_pixel)
            x = np.maximum(x + tensors[f"features.{number}.bias"].astype(x.dtype), 0)
        height, width, channels = x.shape
        x = x.reshape(height // 2, 2, width // 2, 2, channels).max(axis=(1, 3))
    # The dense layer's inputs are ordered channel by channel.
    maps = x.transpose(2, 0, 1).ravel()
    return maps, np.maximum(_dense(tensors, "classifier.0", maps), 0)


def _inverted_residual(tensors, prefix, x, stride):
    y = x
    if f"{prefix}_expand_conv.weight" in tensors:
        y = _relu6(_norm(tensors, f"{prefix}_bn0", _convolution(y, tensors[f"{prefix}_expand_conv.weight"], 1, _same)))
    y = _depthwise(y, tensors[f"{prefix}_depthwise_conv.weight"], stride)
    y = _relu6(_norm(tensors, f"{prefix}_bn1", y))
    y = _norm(tensors, f"{prefix}_bn2", _convolution(y, tensors[f"{prefix}_project_conv.weight"], 1, _same))
    return x + y if x.shape == y.shape else y


def _same(side, kernel, stride):
    """TensorFlow's padding "SAME": as much as ceil(side / stride) windows need, an odd pixel of it at the end."""
    total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    return total // 2, total - total // 2


def _one_pixel(side, kernel, stride):
    return 1, 1


def _windows(x, kernel, stride, padding):
    """For each position (i, j) in the kernel, the pixels it meets: yields (i, j, (h, w, channels))."""
    x = np.pad(x, (*(padding(side, kernel, stride) for side in x.shape[:2]), (0, 0)))
    height, width = ((side - kernel) // stride + 1 for side in x.shape[:2])
    for i in range(kernel):
        for j in range(kernel):
            yield i, j, x[i : i + stride * height : stride, j : j + stride * width : stride]


def _convolution(x, weight, stride, padding):
    # Contiguous, and all pixels in one matrix product: only then does NumPy call BLAS.
    weight = np.ascontiguousarray(weight.transpose(2, 3, 1, 0), x.dtype)
    total = 0
    for i, j, window in _windows(x, weight.shape[0], stride, padding):
        height, width, channels = window.shape
        total = total + (window.reshape(-1, channels) @ weight[i, j]).reshape(height, width, -1)
    return total


def _depthwise(x, weight, stride):
    weight = weight.astype(x.dtype)
    return sum(window * weight[:, 0, i, j] for i, j, window in _windows(x, weight.shape[2], stride, _same))


def _norm(tensors, name, x):
    names = (f"{name}.{part}" for part in ("weight", "bias", "running_mean", "running_var"))
    gamma, beta, mean, variance = (tensors[name].astype(x.dtype) for name in names)
    return gamma * (x - mean) / np.sqrt(variance + 1e-3) + beta


def _relu6(x):
    return np.clip(x, 0, 6)


def _dense(tensors, name, x):
    return tensors[f"{name}.weight"].astype(x.dtype) @ x + tensors[f"{name}.bias"].astype(x.dtype)
