"""Nodes that explore what generators draw: sample, mix, edit, walk, blend, project."""
