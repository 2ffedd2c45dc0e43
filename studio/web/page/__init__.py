"""The browser edge: one ``gr.Blocks`` with the tabs Photos, Train and Generate, and the named endpoints for programs.

Handlers submit to ``studio.service`` and poll it; nothing long runs inside a Gradio event. Read ``build.py`` first.
"""
