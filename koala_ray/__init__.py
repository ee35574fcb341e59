"""koala-ray: from public dialogue data to a fine-tuned, evaluated dialogue model, on Ray."""

__version__ = "0.1.0"
