"""The sample study: invented patients with the issues that the paper lists."""
