"""Where a run's figures go besides its own folder: TensorBoard, Weights & Biases, MLflow, Prometheus."""

from koala_ray.train.report.sinks import Sink, open_sinks, problems

__all__ = ["Sink", "open_sinks", "problems"]
