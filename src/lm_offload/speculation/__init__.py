"""Guesses the next tokens of a sequence, so that one sweep can give several."""
