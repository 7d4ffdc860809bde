"""What commands over history must bear, and jobs on topics of a test's own: one stack for all tests here."""
