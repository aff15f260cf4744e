"""The public face and the step loop; the only place where all rooms meet."""
