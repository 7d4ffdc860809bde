"""What the ranking must bear: one stack, whose job writes to Redis, for all tests here."""
