"""Benchmarks: each module answers one question in one run, as ratios where machines differ."""
