"""What a script records of its run. Everything goes into a spool; nothing here waits for a network."""
