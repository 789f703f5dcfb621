"""The measurements: each runs by one ``make bench-*`` and prints one JSON object as its last line."""
