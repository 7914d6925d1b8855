"""A trained model asked about samples of anybody's: reading them, what it makes of them, tables of many."""
