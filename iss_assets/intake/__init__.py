"""Reading a study folder: patients, surveys and videos, and everything that is wrong with them."""
