"""From a row to a conversation: `qa`, `instruction` and `messages`, one for each shape that data commonly have.

A formatter changes no text: no cell is stripped, and what cannot be read is a ValueError that names the cell.
"""
