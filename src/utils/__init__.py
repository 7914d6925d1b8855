"""Small helpers shared by every layer; importing this package imports no torch."""
