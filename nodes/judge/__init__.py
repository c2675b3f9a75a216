"""Nodes that judge what generators draw: side by side, and in numbers."""
