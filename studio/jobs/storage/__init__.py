"""Where files lie that other machines fetch and bring: a folder of this installation, or a bucket.

``base`` says what may be asked, ``folder`` and ``cloud`` answer it, ``links`` signs what leads into the folder.
"""
