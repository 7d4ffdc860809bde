"""What sinks that write Delta tables share: the tables of the lake, the fence in a commit, upkeep."""
