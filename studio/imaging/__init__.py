"""Maths on pixels: safe decoding, quality, faces, crops and aspect buckets. No torch here."""
