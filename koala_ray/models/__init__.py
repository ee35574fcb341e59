"""Base models: a name, a Hugging Face id or a folder → a folder on this machine that transformers loads."""
