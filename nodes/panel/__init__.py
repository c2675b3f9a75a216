"""The live panel of a training: its state, which a page shows, and what is asked there. Knows nothing of ComfyUI."""
