"""Matting: which pixels are the subject. One engine per file, found through ``registry``."""
