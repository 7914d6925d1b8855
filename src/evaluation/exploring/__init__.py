"""Latent spaces looked into: sliders, planes, paths, embeddings, the aggregate posterior; a page shows them."""
