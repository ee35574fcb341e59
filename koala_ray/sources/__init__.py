"""Raw layout → examples: one file per source, its published counts beside it."""
