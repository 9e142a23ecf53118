"""Rules and passes on MatMul and Einsum."""
