"""In-domain generation (Cao et al., arXiv 2312.08195): a text-free copy of a diffusion model learns a domain from images
alone, and guides the untouched model."""
