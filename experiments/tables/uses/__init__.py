"""What people do with autoencoders: one file a use, beside what a practitioner would take instead."""
