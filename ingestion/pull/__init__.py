"""Sources that are asked instead of sending: databases and image archives. What they answer goes to the drop."""
