"""``python -m koala_ray``: the ``koala-ray`` command."""

from koala_ray.cli import main

main()
