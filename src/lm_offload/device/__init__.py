"""The fastest tier and its processor: memory, streams and events behind one small interface."""
