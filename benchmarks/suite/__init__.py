"""What `run.py` measures, and how."""
