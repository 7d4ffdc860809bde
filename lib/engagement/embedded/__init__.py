"""The services the project brings along: no Docker, no root, nothing system-wide.

`stack.Stack` is the way in. Each service is one file; what they share is in `process` (a supervised process),
`site` (folder, ports, passwords) and `service` (the shape of one). Nothing here knows about Spark, sinks or settings.
"""
