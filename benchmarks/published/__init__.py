"""Published tables of offloading systems beside what the performance model predicts for them."""
