"""What a checkpoint holds, how a run goes on from it, and the Hugging Face folder that it ends as."""
