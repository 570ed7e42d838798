"""The comparison grid: methods × data consistency × contrast × mask × acceleration × data set, from one YAML file.

What is in the file is in `config`; data, training, weights of compressed sensing, scores and speed are made in that
order by `run`, each kept in a file of its own, so that an interrupted run continues where it was.
"""
