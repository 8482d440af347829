//! Random predicates against an evaluator.
