"""Features; each one is a self-contained folder and never imports another."""
