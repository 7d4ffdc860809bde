"""Measurements of this machine that a person can repeat: `./spark-submit.sh benchmark …`."""
