"""Forward functions, one file for each `model_type`; weights are arguments."""
