"""Likeness Studio: from 5-20 photos of a subject to a trained adapter and finished pictures.

The rooms and who may import whom are described in docs/ARCHITECTURE.md and held by tests/test_rooms.py.
"""

__version__ = "0.1.0"
