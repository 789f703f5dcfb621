"""Readers: a landed file becomes rows of text, each with the place where it stood. One module per format."""
