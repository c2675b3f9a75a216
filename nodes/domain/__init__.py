"""Nodes of domains: learned from pictures alone, and guiding the untouched model."""
