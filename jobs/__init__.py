"""One thin module per command: parse, load settings, wire, run."""
