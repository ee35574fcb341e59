"""Machines that are taken away: hearing of it, telling Ray, and using the time that is left."""
