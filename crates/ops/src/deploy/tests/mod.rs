//! The pipeline against a model of a cell: every promise that needs no containers, and a crash at every single effect.

mod crash;
mod doctor;
mod model;
mod outcomes;
mod rollbacks;
