"""From what a model is and what a machine has to a plan in which every byte is accounted for. Asks nobody anything."""
