"""Where one curve is heading, and how wrong such forecasts of it were."""
