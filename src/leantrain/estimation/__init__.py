"""What each method would save in a loop, from a minute of measuring it."""
