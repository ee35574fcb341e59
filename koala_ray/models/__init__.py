"""Base models: a name, a Hugging Face id, a folder or an adapter → a folder on this machine that transformers loads."""
