"""One module per room: it turns that room's functions into pages and JSON, and does nothing else."""
