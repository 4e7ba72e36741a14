"""SQL lint: a text, a file or a ZIP of files in, SQLFluff's violations out."""
