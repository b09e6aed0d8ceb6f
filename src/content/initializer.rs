//! The seven initializers as a plan: steps, with their secrets taken out.
