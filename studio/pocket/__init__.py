"""The embedded base model: its renderer, its recipe and its measuring nets.

``portraits`` draws, ``build`` trains (``python -m studio.pocket.build --help``), ``identity`` measures, ``base/`` is
what ``build`` exported and the studio ships.
"""
