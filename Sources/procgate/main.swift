print("procgate")
