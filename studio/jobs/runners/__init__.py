"""What carries out attempts: ``local`` on this machine, ``ssh`` on another one; ``base`` says what the worker asks."""
