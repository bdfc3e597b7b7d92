"""What a team owns: its runs, its memory budget, its upstream and its routes."""
