"""Plans as records and as text, those that somebody wrote checked and predicted."""
