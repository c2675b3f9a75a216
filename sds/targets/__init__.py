"""Targets: pictures that a diffusion model makes of a generator's own samples, which it is then trained towards."""
