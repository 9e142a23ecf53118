"""What the places where models run can do: data, and the look-up in it."""
