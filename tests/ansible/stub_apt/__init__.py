"""A flat apt repository of packages with NVIDIA's names and versions, and next to nothing in them."""
