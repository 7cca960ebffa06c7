"""Looking at what a run would be trained on: rows token by token, and the data as a whole."""
