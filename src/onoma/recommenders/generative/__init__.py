"""Models that recommend by spelling names."""
