"""Priors on libraries that are no part of the base installation."""
