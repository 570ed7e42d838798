"""From a whole scan to its images: conditioning a slice, running a method on it, finding the method by name."""
