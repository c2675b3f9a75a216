"""Measures of images: distances between sets, LPIPS, CLIP score, diversity, and their pictures."""
