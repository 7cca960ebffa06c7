"""What is wrong with prepared data, judged by the limits of `[audit]`."""
