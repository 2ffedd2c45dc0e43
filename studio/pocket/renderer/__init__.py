"""Drawn portraits: the training pictures of ``pocket``, of its identity encoder and of its detector of faces.

A kit of bold flat features: an ``Identity`` says who is pictured, a ``Scene`` says how. Both are drawn from one integer
seed, ``render`` paints the pair at any size, ``landmarks`` says where the features are and ``caption`` puts the picture
into words.

- ``words``: the tables of names and the phrases that captions, prompts and packs share
- ``people``: ``Identity``, ``Scene``, how they are drawn from seeds, and the twins that test a likeness
- ``portrait``: ``render`` and ``landmarks``
- ``captions``: ``caption`` and ``prompt_for``
- ``shapes``, ``canvas``, ``palette``: outlines, how they become pixels, and the colours behind the names
- ``backgrounds``, ``hair``, ``clothes``, ``head``, ``features``, ``eyes``, ``accessories``, ``styles``: the drawing

Seeds from ``words.HELD_OUT_SEED`` on are never trained on.
"""
