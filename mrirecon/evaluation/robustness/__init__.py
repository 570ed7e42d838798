"""What a reconstruction withstands: corrupted measurements, lesions that were inserted, the worst small perturbation.

Each disturbs the measurement between undersampling and reconstruction; the reference stays what it was.
"""
