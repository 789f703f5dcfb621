"""Doors that stay open: each makes what it receives durable in a journal before it acknowledges, then hands it to the drop."""
