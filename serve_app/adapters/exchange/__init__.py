"""The formats in which tables move in and out: Parquet, NumPy and FAISS, Qdrant, and what clip-retrieval has written."""
