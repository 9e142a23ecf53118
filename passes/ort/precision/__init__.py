"""Conversion of whole models between float32 and float16."""
