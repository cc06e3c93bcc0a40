"""What a derivative costs on this machine: operations, memory, rates, and the clock."""
