"""What is done with pictures: compressed, restored, cut into what they show."""
