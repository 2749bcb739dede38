"""The face: pages for people in a browser, and the session that marks them as guests."""
