"""HTTP interfaces for programs: the studio's own below ``/v1``, and those that existing clients already speak."""
