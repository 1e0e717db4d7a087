"""What this machine has, as plain numbers. Decides nothing."""
