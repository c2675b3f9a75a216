"""Nodes that adapt a generator: what to train towards, and the training."""
