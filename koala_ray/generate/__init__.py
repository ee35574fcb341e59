"""Answers for stored prompt sets: prompt sets, engines, and the resumable step."""
