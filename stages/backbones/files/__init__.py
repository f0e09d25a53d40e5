"""Weights as MXNet keeps them, ``mxnet``, and what readers of any weights file are built of, ``binary``."""
