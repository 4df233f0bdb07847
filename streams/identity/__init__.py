"""What is the same: hashes of states, functions and the environment, and pickles that hold nothing else."""
