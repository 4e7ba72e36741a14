"""One module per question: NAME, TITLE, BARS and `measure`."""
