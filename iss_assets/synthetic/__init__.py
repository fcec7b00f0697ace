"""The sample study: invented patients with the troubles that the paper lists."""
