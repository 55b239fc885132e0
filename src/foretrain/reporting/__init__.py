"""The stages of an analysis: from a study's records to the parts of a report."""
