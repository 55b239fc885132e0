"""Sequential tests of one run's validations, with a stated rate of false alarms over the whole run."""
