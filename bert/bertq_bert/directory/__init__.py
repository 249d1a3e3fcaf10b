"""What the files of a model directory say."""
