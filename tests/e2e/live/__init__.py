"""What the running chain must bear: one stack, whose job writes to every sink, for all tests here."""
