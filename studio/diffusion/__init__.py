"""Maths on tensors: noise schedules, objectives, losses."""
