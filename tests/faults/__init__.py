"""The fault matrix: each test is named by its row, injects the real fault, checks what must hold and prints its figure."""
