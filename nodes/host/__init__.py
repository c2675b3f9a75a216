"""The host: the only folder whose files import ComfyUI's modules."""
