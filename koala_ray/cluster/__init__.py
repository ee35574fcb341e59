"""Clusters: the local one with its token, and the YAML that describes the ones in the cloud."""
