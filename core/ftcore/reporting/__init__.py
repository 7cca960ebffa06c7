"""What a run tells its trackers, whatever becomes of them."""
