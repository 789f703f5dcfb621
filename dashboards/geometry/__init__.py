"""The simulated city's map: drawn once by draw_city.py, committed as data."""
