"""The warehouse: every row version once, in a BigQuery table with views over it."""
