"""Upscaling: networks that enlarge a picture and add detail. One engine per file, found through ``registry``."""
