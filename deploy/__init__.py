"""How the processes are started; nothing of the product imports from here."""
