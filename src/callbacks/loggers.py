"""Trackers that need a word more than Lightning's own wrappers give them."""
