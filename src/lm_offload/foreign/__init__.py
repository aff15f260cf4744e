"""Checkpoints that others quantized: GPTQ, AWQ, compressed-tensors, FP8 and GGUF."""
