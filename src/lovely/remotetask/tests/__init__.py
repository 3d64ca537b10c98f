"""The tests: stories, mirrors, properties and races."""
