"""The four contracts between the application and what it runs on: cache, queue, store, search.

Each is an abstract class; a backend is chosen by the scheme of its URL. What a method promises is documented here only.
"""
