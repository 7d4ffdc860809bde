"""History through the same transform and into the same tables as the stream, beside it, as often as anybody likes."""
