"""Weights files of several frameworks; ``read`` tells the format, and one module reads each.

A weights file comes from strangers: nothing in it is ever run, and no size written in it is believed before the file
is seen to hold that much.
"""
