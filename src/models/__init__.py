"""What learns: one LightningModule and the parts that it is composed of."""
