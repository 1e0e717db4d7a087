"""The models on this disk. Loads none of them."""
