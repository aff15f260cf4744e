"""The tables, pictures and the HTML page that are made from result files; needs no torch."""
