"""Rows, series and images unlike the rest, by what an autoencoder says of them."""
