"""The engine that needs nothing but transformers: its continuous batching, made quick on CPUs and exact in drawing."""
