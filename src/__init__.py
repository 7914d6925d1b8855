"""Latent Lab: variational autoencoders and latent world models as compositions of parts."""
