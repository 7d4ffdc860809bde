"""What the pipeline says about itself: status of queries, health, metrics, the API and its page."""
