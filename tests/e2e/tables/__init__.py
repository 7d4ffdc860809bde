"""What warehouse, lake and external system must bear: one stack, whose job writes to them, for all tests here."""
