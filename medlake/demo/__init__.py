"""The embedded demo: a simulated city through every real component, by one command."""
