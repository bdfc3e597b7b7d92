"""The operators' page: why an event did not arrive. It only reads, and hides payloads by default."""
