"""Ray Train runs DeepSpeed over the token shards, in the pack plan's order."""
