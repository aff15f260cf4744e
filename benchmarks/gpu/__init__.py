"""The engine under budgets of GPU memory."""
