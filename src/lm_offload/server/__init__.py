"""OpenAI's HTTP interface over one loaded model."""
