"""Ray's worker processes as forks of one that has imported what they all import.

A worker that trains imports Ray Train, torch, transformers and DeepSpeed: seven seconds of a CPU for each worker and
each start. :mod:`koala_ray.forkserver.launch` is what Ray then starts in place of ``python``,
:mod:`koala_ray.forkserver.server` is the process that it asks, and :mod:`koala_ray.forkserver.environment` tells Ray.
"""
