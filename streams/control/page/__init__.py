"""The page of the control plane: what operators see and steer, on loopback."""
