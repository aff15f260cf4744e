"""What this machine allows and how fast it is."""
