"""Groups of ``medlake`` commands, one module a room; ``medlake.cli`` puts them together."""
