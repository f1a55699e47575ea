"""What the recipes of the paper's five published data sets share."""
