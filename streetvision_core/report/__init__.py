"""The report: what every policy does on val_test, as a record, a page and plots."""
