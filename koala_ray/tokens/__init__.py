"""Template, mask, pack, shards: the only place where text becomes ids."""
