"""What may be ordered, the files inside an order, and the exchanges with the provider about it."""
