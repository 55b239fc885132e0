"""The Scaling tab of TensorBoard: what is written to event files, and the plugin that shows it."""
