"""CrisisMMD: tweets of disasters, their texts and pictures."""
