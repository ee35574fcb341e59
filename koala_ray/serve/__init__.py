"""Models behind an OpenAI-compatible HTTP interface, on Ray Serve."""
