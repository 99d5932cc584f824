"""JSON documents that one step writes and another reads, a module a stage; each document with its file name.

Put here: one pydantic class per document. Keep out: how a document is made or used.
"""
