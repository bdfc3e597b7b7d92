"""What a team owns: its configuration, its runs, its memory budget, its upstream and its router."""
