"""The Delta lake: every row version and every dead letter, in tables that other engines read too."""
