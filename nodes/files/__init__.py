"""Nodes that load, save and convert generators."""
