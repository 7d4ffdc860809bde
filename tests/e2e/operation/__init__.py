"""How the chain is run, watched and mended: a stack like that of tests/e2e/live, of its own."""
