"""What happens during a fit."""
