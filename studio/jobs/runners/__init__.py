"""What carries out attempts; ``base`` says what the worker asks.

``local`` does on this machine, ``ssh`` on another one, ``ray`` in a cluster.
"""
