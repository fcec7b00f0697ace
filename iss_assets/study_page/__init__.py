"""What the study looks like: figures of the marts, and a page that shows them all."""
