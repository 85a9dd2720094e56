"""The queue against a model of it: Hypothesis draws what producers, workers, people and faults do, and shrinks what goes wrong."""
