"""Where units, keys and values lie: candidates that fit the budgets, byte by byte."""
