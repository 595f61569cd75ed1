"""Densities of latents, the integer tables made from them, and the range coders that spend their bits."""
