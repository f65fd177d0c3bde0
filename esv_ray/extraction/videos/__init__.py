"""The videos of an extraction: where they are, their ids and labels."""
