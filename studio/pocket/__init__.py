"""The embedded base model: its renderer, its recipe and its measuring nets.

``renderer/`` draws people, ``recipe/`` trains on the drawings (``python -m studio.pocket.recipe --help``), ``faces``
and ``identity`` are the nets that measure, and ``base/`` is what the recipe exported and the studio ships.
"""
