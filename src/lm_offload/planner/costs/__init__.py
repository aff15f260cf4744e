"""What a model holds, and what its units, rows and tokens cost on a processor."""
