"""TensorFlow Datasets: its registry of downloads, and prepared folders read without TensorFlow."""
