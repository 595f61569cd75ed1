"""Densities of latents, which give the rate in training; integer tables made from them; range coders."""
