"""The rules of ``checks`` as ops of the graph."""
