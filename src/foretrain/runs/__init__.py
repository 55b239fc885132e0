"""One run along its learning-rate schedule, with what earlier or published runs tell."""
