"""Rules and passes that find standard operators in their expanded forms."""
