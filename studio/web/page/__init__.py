"""The page: one ``gr.Blocks`` with a tab for each verb that a person starts, and the named endpoints for programs.

Handlers submit jobs to ``studio.service`` and poll them; nothing long runs inside a Gradio event. Read ``build.py``
first, then ``frame.py``. Text is in ``words.py``, HTML in ``templates/``.
"""
