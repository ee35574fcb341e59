"""Raw files → curated examples, with an account of every row."""
