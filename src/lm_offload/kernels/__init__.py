"""One signature per operation, several implementations, resolved once and reported by name."""
