"""What a model is: its config, its weights as data, what it costs; computes nothing."""
