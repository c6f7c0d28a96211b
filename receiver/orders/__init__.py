"""What may be ordered, and the files inside an order."""
