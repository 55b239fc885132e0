"""What runs of several sizes say together, and what the data's repeats are worth."""
