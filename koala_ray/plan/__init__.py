"""What a run needs before a machine is rented: memory, hours and dollars; the same formulas serve the meter."""
