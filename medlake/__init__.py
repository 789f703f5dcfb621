"""The command line: nothing but wiring."""
