"""The operators' page: why did this event not arrive? It only reads, and hides payloads by default."""
