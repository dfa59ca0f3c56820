"""What the data call for, and what each method would save in a loop, from a minute of measuring it."""
