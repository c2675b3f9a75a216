"""The training loop, for whatever is trained. Knows torch only: no generator, no diffusion model."""
