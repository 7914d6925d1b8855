"""Several runs side by side: which can be compared, their numbers, their pictures, a report."""
