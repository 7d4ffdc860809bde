"""Destinations, one room each; sinks never import sources or each other."""
