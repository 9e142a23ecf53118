"""What is said of a result: tables, JSON, a page."""
