"""Bases and single weight files by name: found, downloaded, converted, verified, kept in a cache."""
