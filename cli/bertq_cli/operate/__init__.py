"""Commands that change running workers: drain them, and replace their model."""
