"""Policies on three tiers: what they cost, how they are searched, and why they win."""
