"""What attribution tables say."""
