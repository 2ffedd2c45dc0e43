"""The successor of the embedded base, still in training; nothing else in the studio uses it yet.

``renderer/`` draws people, ``recipe/`` trains (``python -m studio.pocket.recipe --help``), ``faces``, ``identity``
and ``engine`` measure a likeness that sees the face (``python -m benchmarks.twins``), and ``base/`` holds the weights
that training goes on from.
"""
