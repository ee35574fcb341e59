"""The curves of one run or of several laid over each other: a picture, and a page that needs no network."""

from koala_ray.train.curves.page import curves_page
from koala_ray.train.curves.picture import curves_png
from koala_ray.train.curves.runs import last_figures, name_runs, read_run

__all__ = ["curves_page", "curves_png", "last_figures", "name_runs", "read_run"]
