"""What planning with a sequence model is compared with, trained on the same trajectories."""
