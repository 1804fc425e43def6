"""Self-supervision: a backbone that goes on learning from the images of train, without their labels."""
