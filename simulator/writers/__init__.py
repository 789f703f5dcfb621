"""Writers: rows in standard codes -> the files that each source system would emit (README.md)."""
