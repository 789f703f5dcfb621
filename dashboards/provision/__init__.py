"""Bringing Superset to the state that the code describes; runs in Superset's own environment."""
