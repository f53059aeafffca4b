"""Truth: how well transfers really went, measured here or taken from elsewhere."""
